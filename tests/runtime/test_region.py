"""A captioner that is told where to look and what to begin with, and asked what else it could have said."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from captionlens.errors import OptionError, RegionError
from captionlens.geometry.region import Region
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.decoding import DecodingOptions, State
from captionlens.runtime.region_network import RegionNetwork
from captionlens.runtime.request import CaptionRequest
from helpers.paths import REPOSITORY

PHOTOGRAPH = REPOSITORY / "examples" / "photographs" / "photographer.jpg"
SEARCHES = [
    DecodingOptions(beam=1),
    DecodingOptions(beam=3),
    DecodingOptions(temperature=1.5, seed=4),
]


@pytest.mark.parametrize("options", SEARCHES, ids=["greedy", "beam", "sampled"])
def test_attention_stays_inside_the_region(captioner: Captioner, options: DecodingOptions) -> None:
    rows, columns = captioner.grid
    caption = captioner.caption(PHOTOGRAPH, CaptionRequest(options, region=Region(0.5, 0.0, 1.0, 0.3)))
    inside = np.zeros((rows, columns), bool)
    inside[: round(rows * 0.3), columns // 2 :] = True
    assert len(caption.words) >= 1
    assert (caption.attention[:, ~inside] == 0).all()
    np.testing.assert_allclose(caption.attention.sum((1, 2)), 1, atol=1e-5)


def test_a_region_of_the_whole_photograph_changes_nothing(captioner: Captioner) -> None:
    whole = captioner.caption(PHOTOGRAPH, captioner.request(region=Region(0, 0, 1, 1)))
    plain = captioner.caption(PHOTOGRAPH)
    assert whole.text == plain.text
    np.testing.assert_array_equal(whole.attention, plain.attention)


def test_attention_inside_is_that_of_the_whole_made_to_sum_to_one(captioner: Captioner) -> None:
    # The first word: what the attention of later words is made of depends on where the earlier ones looked.
    region = Region(0.2, 0.2, 0.8, 0.8)
    rows, columns = captioner.grid
    places = region.places(rows, columns)
    plain = captioner.caption(PHOTOGRAPH).attention[0].ravel()[places]
    kept = captioner.caption(PHOTOGRAPH, captioner.request(region=region)).attention[0].ravel()[places]
    np.testing.assert_allclose(kept, plain / plain.sum(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ((0.0, 0.0, 0.5, 0.5), [0, 1, 4, 5]),
        ((0.1, 0.0, 0.5, 0.5), [0, 1, 4, 5]),  # most of the first column
        ((0.2, 0.0, 0.5, 0.5), [1, 5]),
        ((0.3, 0.3, 0.31, 0.31), [5]),  # less than half of any cell: the one it lies in
        ((0.0, 0.0, 1.0, 1.0), list(range(16))),
        ((0.24, 0.24, 0.26, 0.26), [0, 1, 4, 5]),  # as much of four cells
    ],
)
def test_the_cells_of_a_box(box: tuple[float, float, float, float], cells: list[int]) -> None:
    assert Region(*box).places(4, 4).tolist() == cells


@pytest.mark.parametrize(
    "text", ["0,0,1", "a,b,c,d", "", "0,0,1,1,1", "0.5,0,0.5,1", "0,0,1,nan", "-0.1,0,1,1", "0,0,1,2"]
)
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="region"):
        Region.parse(text)


def test_a_region_is_read_as_it_is_written() -> None:
    assert Region.parse("0.1, 0.25,0.5,1") == Region(0.1, 0.25, 0.5, 1.0)


@pytest.mark.parametrize(
    "text", ["0,0,1", "a,b,c,d", "", "0,0,2,1", "0.5,0,0.6,1", "0,0,0,1", "0,0,1,nan", "-0.1,0,1,1"]
)
def test_what_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="region must be x,y,width,height"):
        Region.parse_box(text)


def test_a_box_is_a_corner_and_a_size() -> None:
    assert Region.parse_box("0.1, 0.25,0.5,0.75") == Region(0.1, 0.25, 0.6, 1.0)
    assert Region.parse_box("0.7,0.1,0.3,0.9") == Region(0.7, 0.1, 1.0, 1.0)  # rounding reaches no further


@pytest.mark.parametrize("options", SEARCHES, ids=["greedy", "beam", "sampled"])
def test_a_caption_begins_with_its_prefix(captioner: Captioner, options: DecodingOptions) -> None:
    caption = captioner.caption(PHOTOGRAPH, CaptionRequest(options, prefix="Two dogs"))
    assert [word.text for word in caption.words[:2]] == ["two", "dogs"]
    forced = captioner.force(PHOTOGRAPH, [caption.text])[0]
    np.testing.assert_allclose(
        [word.probability for word in caption.words], [word.probability for word in forced.words], rtol=1e-3
    )
    np.testing.assert_allclose(caption.attention, forced.attention, atol=1e-5)
    assert caption.log_prob == pytest.approx(forced.log_prob, abs=1e-3)


def test_the_beginning_of_the_best_greedy_caption_leads_to_it(captioner: Captioner) -> None:
    greedy = DecodingOptions(beam=1)
    caption = captioner.caption(PHOTOGRAPH, greedy)
    for count in range(len(caption.words) + 1):
        prefix = " ".join(word.text for word in caption.words[:count])
        assert captioner.caption(PHOTOGRAPH, CaptionRequest(greedy, prefix=prefix)).text == caption.text


def test_a_prefix_that_cannot_be_said_is_refused(captioner: Captioner) -> None:
    with pytest.raises(OptionError, match="zyzzyva"):
        captioner.caption(PHOTOGRAPH, captioner.request(prefix="a zyzzyva"))
    with pytest.raises(OptionError, match="max_words"):
        captioner.caption(PHOTOGRAPH, CaptionRequest(DecodingOptions(max_words=2), prefix="a man is"))


def test_a_prefix_as_long_as_a_caption_may_be_ends_there(captioner: Captioner) -> None:
    caption = captioner.caption(PHOTOGRAPH, CaptionRequest(DecodingOptions(max_words=3), prefix="a man is"))
    assert caption.text == "a man is"


def test_alternatives_are_the_likeliest_other_words(captioner: Captioner) -> None:
    caption = captioner.caption(PHOTOGRAPH, captioner.request(alternatives=4))
    assert captioner.caption(PHOTOGRAPH).words[0].alternatives == ()
    for place, word in enumerate(caption.words):
        before = " ".join(other.text for other in caption.words[:place])
        offered = [other.text for other in word.alternatives]
        assert len(set(offered)) == 4 and word.text not in offered
        assert not set(offered) & {"<pad>", "<start>", "<end>", "<unk>"}
        chances = [other.probability for other in word.alternatives]
        assert chances == sorted(chances, reverse=True)
        forced = captioner.force(PHOTOGRAPH, [f"{before} {other}" for other in offered])
        np.testing.assert_allclose([f.words[place].probability for f in forced], chances, rtol=1e-3, atol=1e-6)
    # None that is left out is likelier than one that is given.
    rest = [t for t in captioner.vocabulary.tokens[4:204] if t not in offered and t != word.text]
    others = captioner.force(PHOTOGRAPH, [f"{before} {token}" for token in rest])
    assert max(f.words[place].probability for f in others) <= min(chances)


def test_alternatives_of_a_batch_are_those_of_each_alone(captioner: Captioner) -> None:
    photographs = sorted(PHOTOGRAPH.parent.glob("*.jpg"))[:4]
    pixels = np.stack([captioner.preprocessing.read(str(path)) for path in photographs])
    together = captioner.caption_features(captioner.encode(pixels), options=captioner.request(alternatives=3))
    for path, caption in zip(photographs, together, strict=True):
        alone = captioner.caption(path, captioner.request(alternatives=3))
        assert caption.text == alone.text
        for word, other in zip(caption.words, alone.words, strict=True):
            assert [a.text for a in word.alternatives] == [a.text for a in other.alternatives]


def test_alternatives_stand_in_json(captioner: Captioner) -> None:
    caption = captioner.caption(PHOTOGRAPH, captioner.request(alternatives=2))
    entry = caption.to_dict()["words"][1]
    assert [other["text"] for other in entry["alternatives"]] == [a.text for a in caption.words[1].alternatives]
    assert "alternatives" not in captioner.caption(PHOTOGRAPH).to_dict()["words"][1]
    with pytest.raises(OptionError, match="alternatives"):
        captioner.caption(PHOTOGRAPH, captioner.request(alternatives=-1))


def test_examining_a_word_of_a_region_asks_with_the_region(captioner: Captioner) -> None:
    region = Region(0.0, 0.0, 0.6, 1.0)
    examined = captioner.examine(captioner.caption(PHOTOGRAPH, captioner.request(region=region)))
    for word in examined.words:
        assert word.faithfulness is not None
        assert word.faithfulness.probability == word.probability


def test_graphs_with_a_fixed_number_of_places_are_named(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = captioner.grid
    monkeypatch.setattr(captioner.network, "_places", rows * columns)
    captioner.caption(PHOTOGRAPH)
    with pytest.raises(RegionError, match="export it anew"):
        captioner.caption(PHOTOGRAPH, captioner.request(region=Region(0, 0, 0.5, 0.5)))


def test_a_network_without_a_row_a_place_is_refused() -> None:
    class Flat:
        def start(self, features: NDArray[np.float32]) -> State:
            return State((features.reshape(len(features), -1),), (np.zeros((len(features), 1, 1), np.float32),))

    with pytest.raises(ValueError, match=r"\(B, 4, \.\.\.\), a row a place"):
        RegionNetwork(Flat(), np.array([0]), 4).start(np.zeros((1, 4, 3), np.float32))  # type: ignore[arg-type]


def test_a_caption_remembers_its_request(captioner: Captioner) -> None:
    region = Region(0.0, 0.0, 0.6, 1.0)
    assert captioner.caption(PHOTOGRAPH).region is None
    request = captioner.request(region=region, faithfulness=True, min_confidence=1.0)
    (caption,) = captioner.caption_many([PHOTOGRAPH], options=request)
    assert caption.region == region
    assert caption.withheld
    assert all(word.faithfulness is None for word in caption.words)  # not shown, so not examined
    shown = captioner.caption(PHOTOGRAPH, captioner.request(region=region, faithfulness=True, min_confidence=0.0))
    examined = captioner.examine(captioner.caption(PHOTOGRAPH, captioner.request(region=region)))
    assert [word.faithfulness for word in shown.words] == [word.faithfulness for word in examined.words]


def test_a_request_is_the_models_own_search_with_changes(captioner: Captioner) -> None:
    assert captioner.request() == CaptionRequest(captioner.options)
    changed = captioner.request(beam=1, max_words=None, temperature=None, prefix="a man")
    assert changed == CaptionRequest(replace(captioner.options, beam=1), prefix="a man")
    with pytest.raises(OptionError, match="beam"):
        captioner.request(beam=0)
    with pytest.raises(TypeError):
        captioner.request(bream=3)
