"""Whether a captioner that is made to look at a box names what people named there.

For every thing with one box in Flickr30k Entities, captions are searched four ways: of the whole photograph; with
attention kept to the box (`Captioner.caption(region=...)`); the same with the network's first state made of the places
inside alone; and of the photograph cropped to the box. "Named" is the share of things for which the caption has the
last word of a phrase that people wrote of them; "of those unnamed" the same among what the caption of the whole
photograph does not name. "Fragments" are captions that begin with a preposition.

    python benchmarks/regions.py ../shared/data/flickr8k --boxes ../shared/data/flickr8k/Flickr30kEntities
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import finish, machine, positive, table
from numpy.typing import NDArray
from tqdm import tqdm

import captionlens
from captionlens.datasets import read_dataset
from captionlens.datasets.phrases import PhrasedCaption, phrase_reader
from captionlens.geometry.region import Region
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.decoding import State, decode
from captionlens.runtime.images import read_image
from captionlens.runtime.model_directory import PACKAGED_MODEL
from captionlens.runtime.region_network import RegionNetwork
from captionlens.scoring.bootstrap import percentile_interval, resampled_totals

WAYS = ("whole photograph", "attention kept to the box", "first state from inside, too", "cropped to the box")
PREPOSITIONS = {"at", "by", "from", "in", "near", "of", "on", "over", "to", "under", "with"}


class FromInside(RegionNetwork):
    """Even the first state knows the places inside alone: all others are given their mean."""

    def start(self, features: Any) -> State:
        inside = features[:, self.places]
        seen = np.repeat(inside.mean(1, keepdims=True), self.count, axis=1)
        seen[:, self.places] = inside
        return super().start(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description="Does looking at a box name what is in it?")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--boxes", type=Path, required=True, help="Flickr30k Entities")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--photographs", type=positive, help="the first N (default: all)")
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, help="default: the captioner that comes along")
    options = parser.parse_args()

    captioner = captionlens.load(options.model)
    records = read_dataset(options.dataset).split(options.split)[: options.photographs]
    read = phrase_reader(options.boxes)
    # Per photograph: things, those unnamed, and per way: named, named of those unnamed, fragments.
    counts = np.zeros((len(records), 2 + 3 * len(WAYS)))
    for row, record in enumerate(tqdm(records, unit="photo")):
        image = read_image(record.image)
        features = captioner.encode(captioner.preprocessing.resize(image)[None])
        for region, names in things(read(record), captioner):
            said = list(captions(captioner, image, features, region))
            unnamed = not names & set(said[0])
            counts[row, :2] += 1, unnamed
            for way, words in enumerate(said):
                named = bool(names & set(words))
                fragment = bool(words) and words[0] in PREPOSITIONS
                counts[row, 2 + 3 * way : 5 + 3 * way] += named, named and unnamed, fragment

    total, draws = counts.sum(0), resampled_totals(counts)
    results = {}
    for way, name in enumerate(WAYS):
        column = 2 + 3 * way
        results[name] = {
            "named": total[column] / total[0],
            "named_interval": percentile_interval(draws[:, column] / draws[:, 0]),
            "named_of_unnamed": total[column + 1] / total[1],
            "named_of_unnamed_interval": percentile_interval(draws[:, column + 1] / draws[:, 1]),
            "fragments": total[column + 2] / total[0],
        }
    rows = [
        [name, *(100 * found[key] for key in ("named", "named_of_unnamed", "fragments"))]
        for name, found in results.items()
    ]
    print(f"{total[0]:.0f} things of {len(records)} photographs, {total[1]:.0f} of them unnamed")
    print(table(["", "named, %", "of those unnamed, %", "fragments, %"], rows))
    finish({"benchmark": "regions", "machine": machine(), "things": total[0], "unnamed": total[1], "results": results})


def things(sentences: tuple[PhrasedCaption, ...], captioner: Captioner) -> Iterator[tuple[Region, set[str]]]:
    """What has one box: the box, and the last words of the phrases that name it, as far as the captioner knows them."""
    names: dict[tuple[float, ...], set[str]] = {}
    for sentence in sentences:
        for phrase in sentence.phrases:
            if len(phrase.boxes) == 1:
                box = tuple(np.clip(phrase.boxes[0], 0, 1).tolist())
                names.setdefault(box, set()).add(sentence.words[phrase.end - 1].lower())
    for (left, top, right, bottom), words in names.items():
        known = {word for word in words if word in captioner.vocabulary}
        if known and left < right and top < bottom:
            yield Region(left, top, right, bottom), known


def captions(captioner: Captioner, image: Any, features: NDArray[np.float32], region: Region) -> Iterator[list[str]]:
    """The words of a caption in each of WAYS."""
    rows, columns = captioner.grid
    places = region.places(rows, columns)
    sides = np.array([region.left, region.top, region.right, region.bottom]) * [*image.size, *image.size]
    crop = image.crop((*np.floor(sides[:2]).astype(int).tolist(), *np.ceil(sides[2:]).astype(int).tolist()))
    cropped = captioner.encode(captioner.preprocessing.resize(crop)[None])
    for network, seen in (
        (captioner.network, features),
        (RegionNetwork(captioner.network, places, rows * columns), features),
        (FromInside(captioner.network, places, rows * columns), features),
        (captioner.network, cropped),
    ):
        yield captioner.vocabulary.decode(decode(network, seen, captioner.options)[0].tokens)


if __name__ == "__main__":
    main()
