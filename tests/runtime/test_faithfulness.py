"""`Captioner.examine`: exact falls of a network made by hand; the packaged one against pictures blanked by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import captionlens
from captionlens.errors import CaptionlensError, UnreadableImage
from captionlens.geometry.grid_cells import attended_cells, blank
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.decoding import DecodingOptions, State
from captionlens.runtime.images import Preprocessing
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.vocabulary import Vocabulary
from helpers.paths import REPOSITORY

VOCABULARY = Vocabulary.build(["bright said"])
BRIGHT, SAID = (VOCABULARY.encode(word)[1] for word in ("bright", "said"))
GRID = (5, 5)


class OneCell:
    """Says 'bright' with the probability 0.1 + 0.8 b, b being the brightness of the first cell from 0 to 1, and 'said'
    with what is left. What the words before were does not matter to it."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(len(images))
        size = images.shape[-1] // GRID[0]
        parts = images.reshape(len(images), 3, GRID[0], size, GRID[1], size)
        cells: NDArray[np.float32] = parts.mean((1, 3, 5))
        return cells.reshape(len(images), -1, 1)  # (B, L, 1)

    def start(self, features: Any) -> State:
        return State((features,), (np.zeros((len(features), 1, 1), np.float32),))

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        bright = 0.1 + 0.8 * state.memory[0][:, 0, 0]  # (B,)
        probabilities = np.full((*tokens.shape, len(VOCABULARY)), 1e-9, np.float32)
        probabilities[..., BRIGHT] = bright[:, None]
        probabilities[..., SAID] = 1 - bright[:, None]
        return np.log(probabilities), np.full((*tokens.shape, 25), 1 / 25, np.float32), state


def captioner(network: OneCell) -> Captioner:
    preprocessing = Preprocessing(20, mean=(0, 0, 0), std=(1, 1, 1))
    options = DecodingOptions()
    return Captioner(
        network, vocabulary=VOCABULARY, preprocessing=preprocessing, grid=GRID, name="one-cell", options=options
    )


def looking_at(*cells: int) -> NDArray[np.float32]:
    """Maps (words, 5, 5), each with nearly all of it in one cell and least of all in the last cell but that."""
    maps = np.full((len(cells), 25), 0.001, np.float32)
    for row, cell in zip(maps, cells, strict=True):
        row[24 if cell != 24 else 23] = 0.0005
        row[cell] = 0.0
        row[cell] = 1 - row.sum()
    return maps.reshape(-1, *GRID)


@pytest.fixture
def photograph() -> NDArray[np.uint8]:
    """Black, but for the first cell, which is white."""
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:4, :4] = 255
    return pixels


def said(words: str, maps: NDArray[np.float32], photograph: NDArray[np.uint8]) -> Caption:
    probabilities = {"bright": 0.9, "said": 0.1}
    return Caption(
        words,
        words=tuple(Word(word, probabilities[word]) for word in words.split()),
        attention=maps,
        photograph=Photograph(photograph),
    )


def test_the_falls_of_a_network_that_looks_at_one_cell(photograph: NDArray[np.uint8]) -> None:
    network = OneCell()
    caption = said("bright bright said bright", looking_at(0, 12, 0, 24), photograph)
    examined = captioner(network).examine(caption)
    grey = 10 / 255  # a 25th of white, as a whole number
    without = 0.1 + 0.8 * grey
    found = [
        (word.faithfulness.probability, word.faithfulness.blanked, word.faithfulness.control)
        for word in examined.words
        if word.faithfulness
    ]
    wanted = [(0.9, without, 0.9), (0.9, 0.9, 0.9), (0.1, 1 - without, 0.1), (0.9, 0.9, 0.9)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert [word.faithfulness and word.faithfulness.depends_on_picture for word in examined.words] == [
        True, False, False, False
    ]  # fmt: skip
    # Four different pictures, not eight: without cell 0, 12, 24 or 23.
    assert network.batches == [4]
    assert replace(examined, words=caption.words).to_dict() == caption.to_dict()
    assert caption.words[0].faithfulness is None  # the caption itself is as it was


def test_pictures_are_encoded_a_few_at_a_time(photograph: NDArray[np.uint8]) -> None:
    network = OneCell()
    caption = said(" ".join(["bright"] * 24), looking_at(*range(24)), photograph)
    examined = captioner(network).examine(caption)
    assert network.batches == [16, 9]
    assert [bool(word.faithfulness and word.faithfulness.depends_on_picture) for word in examined.words] == [
        True, *[False] * 23
    ]  # fmt: skip


def test_json(photograph: NDArray[np.uint8]) -> None:
    examined = captioner(OneCell()).examine(said("bright said", looking_at(0, 12), photograph))
    first, second = examined.to_dict()["words"]
    assert first == {
        "text": "bright",
        "probability": 0.9,
        "depends_on_picture": True,
        "faithfulness": {"probability": 0.9, "blanked": 0.131373, "control": 0.9},
    }
    assert second["depends_on_picture"] is False


def test_nothing_to_examine(photograph: NDArray[np.uint8]) -> None:
    network = OneCell()
    failed = Caption("", path="x.jpg", error=UnreadableImage("x.jpg", "truncated file"))
    for caption in (failed, Caption("", photograph=Photograph(photograph))):
        assert captioner(network).examine(caption) is caption
    with pytest.raises(CaptionlensError, match="does not know its photograph"):
        captioner(network).examine(Caption("bright", words=(Word("bright", 0.9),), attention=looking_at(0)))
    with pytest.raises(UnreadableImage, match=r"gone\.jpg: no such file"):
        captioner(network).examine(
            replace(said("bright", looking_at(0), photograph), photograph=Photograph("gone.jpg"))
        )
    assert network.batches == []


def test_the_packaged_captioner_against_pictures_blanked_by_hand() -> None:
    """Which the captioner reads and forces one by one, as any other picture."""
    real = captionlens.load(threads=1)
    path = REPOSITORY / "examples" / "photographs" / "cat.jpg"
    caption = real.caption(path)
    examined = real.examine(caption)
    pixels = real.preprocessing.read(path)
    nothing = np.zeros(real.grid, bool)
    (forced,) = real.force(blank(pixels, nothing), [caption.text])
    assert [word.text for word in examined.words] == [word.text for word in caption.words]
    for number, word in enumerate(examined.words):
        found = word.faithfulness
        assert found is not None
        wanted = [forced.words[number].probability]
        for cells in attended_cells(caption.attention[number]):
            (other,) = real.force(blank(pixels, cells), [caption.text])
            wanted.append(other.words[number].probability)
        assert [found.probability, found.blanked, found.control] == pytest.approx(wanted, abs=1e-4)


def test_a_picture_of_one_colour_has_nothing_to_blank() -> None:
    real = captionlens.load(threads=1)
    caption = real.examine(real.caption(Image.new("RGB", (300, 200), (90, 120, 60))))
    assert caption.words
    for word in caption.words:
        assert word.faithfulness is not None
        assert word.faithfulness.fall == pytest.approx(0, abs=1e-4)
        assert word.faithfulness.control_fall == pytest.approx(0, abs=1e-4)
        assert not word.faithfulness.depends_on_picture
