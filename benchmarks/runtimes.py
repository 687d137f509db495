"""What a captioner scores in torch, in ONNX Runtime, and in ONNX Runtime with its weights in eight bits.

The three search alike: the split's photographs from their files, the model's own beam and length penalty, the official
scorers' arithmetic. "The same captions" is the share that is word for word torch's. METEOR is left out.

    python benchmarks/runtimes.py ../shared/data/flickr8k --split dev
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import finish, machine, table

import captionlens
from captionlens.datasets import read_dataset
from captionlens.datasets.records import Record
from captionlens.export.rewriting import export_again, reopen
from captionlens.export.torch_network import TorchNetwork
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.model_directory import PACKAGED_MODEL, ModelDirectory
from captionlens.scoring.scores import References, score_captions

SCORES = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D")


def main() -> None:
    parser = argparse.ArgumentParser(description="One captioner in several runtimes.")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, help="default: the captioner that comes along")
    options = parser.parse_args()

    records = read_dataset(options.dataset).split(options.split)
    references = References({number: record.captions for number, record in enumerate(records)})
    results = {"torch": measure(in_torch(options.model), records, references)}
    results["ONNX Runtime"] = measure(captionlens.load(options.model), records, references)
    with tempfile.TemporaryDirectory() as scratch:
        smaller = export_again(options.model, Path(scratch) / "int8", weights="int8")
        results["ONNX Runtime, eight bits"] = measure(captionlens.load(smaller), records, references)
    said = results["torch"]["captions"]
    for result in results.values():
        captions = result.pop("captions")
        result["same"] = sum(map(str.__eq__, captions, said)) / len(said)

    rows = [
        [name, *(100 * result["scores"][score] for score in SCORES), 100 * result["same"], result["seconds"]]
        for name, result in results.items()
    ]
    print(table(["", *SCORES, "same captions, %", "seconds"], rows))
    finish({"benchmark": "runtimes", "machine": machine(), "photographs": len(records), "results": results})


def in_torch(model: Path) -> Captioner:
    """The captioner of a model directory with torch's network instead of the graphs."""
    directory = ModelDirectory.open(model)
    return Captioner.of(directory, TorchNetwork(*reopen(directory)))


def measure(captioner: Captioner, records: Sequence[Record], references: References) -> dict[str, Any]:
    begin = time.perf_counter()
    captions = [caption.text for caption in captioner.caption_many(record.image for record in records)]
    seconds = time.perf_counter() - begin
    scores = score_captions(dict(enumerate(captions)), references, intervals=False, meteor=False).scores
    return {"scores": scores, "captions": captions, "seconds": seconds}


if __name__ == "__main__":
    main()
