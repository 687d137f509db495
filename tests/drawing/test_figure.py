"""Figures: every word has its picture, whatever the words and the photograph are like."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.drawing import fonts
from captionlens.drawing.figure import attention_figure
from captionlens.errors import OptionError

GREY = Image.new("RGB", (160, 120), (120, 120, 120))


def maps(count: int, rows: int = 4, columns: int = 4) -> NDArray[np.float32]:
    cells = np.random.default_rng(0).dirichlet(np.full(rows * columns, 0.3), count)
    return cells.reshape(count, rows, columns).astype(np.float32)


def test_photograph_first_then_each_map_at_its_word() -> None:
    attention = np.zeros((2, 2, 2), np.float32)
    attention[0, 0, 0] = attention[1, 1, 1] = 1
    figure = np.asarray(attention_figure(GREY, ["left", "right"], attention, tile=120).convert("L"), int)
    width, height = 139, 104  # about the area of 120 x 120
    margin, gap = 11, 8
    top = figure.shape[0] - margin - height
    tiles = [figure[top : top + height, margin + place * (width + gap) :][:, :width] for place in range(3)]
    assert np.ptp(tiles[0]) == 0
    y, x = np.unravel_index(tiles[1].argmax(), tiles[1].shape)
    assert y < height / 2
    assert x < width / 2
    y, x = np.unravel_index(tiles[2].argmax(), tiles[2].shape)
    assert y > height / 2
    assert x > width / 2


def test_labels_and_certainties_are_written() -> None:
    plain = attention_figure(GREY, ["", ""], maps(2))
    words = attention_figure(GREY, ["dog", ""], maps(2))
    both = attention_figure(GREY, ["dog", ""], maps(2), certainties=[0.9, 0.1])
    titled = attention_figure(GREY, ["dog", ""], maps(2), title="a dog")
    assert plain.size == words.size == both.size
    assert titled.height > words.height
    ink = [int((np.asarray(figure.convert("L")) < 200).sum()) for figure in (plain, words, both)]
    assert ink[0] < ink[1] < ink[2]


@pytest.mark.parametrize(("count", "shape"), [(0, (1, 1)), (1, (1, 2)), (5, (1, 6)), (8, (2, 5)), (40, (7, 6))])
def test_words_wrap_into_even_rows(count: int, shape: tuple[int, int]) -> None:
    figure = attention_figure(GREY, ["word"] * count, maps(count), tile=48)
    cell_width, cell_height = 55, 42 + (18 if count else 0)  # tile, label above it
    rows, columns = shape
    assert figure.width == 2 * 8 + columns * cell_width + (columns - 1) * 6
    assert figure.height == 2 * 8 + rows * cell_height + (rows - 1) * 6


def test_columns_are_obeyed() -> None:
    narrow = attention_figure(GREY, ["word"] * 5, maps(5), columns=1)
    wide = attention_figure(GREY, ["word"] * 5, maps(5), columns=100)
    assert narrow.height > narrow.width
    assert wide.width > 6 * wide.height


@pytest.mark.parametrize("size", [(4000, 40), (40, 4000), (1, 1), (1, 900)])
def test_odd_shapes_of_photographs(size: tuple[int, int]) -> None:
    figure = attention_figure(Image.new("L", size), ["a", "dog"], maps(2), certainties=[1.0, 0.0])
    assert max(figure.size) < 2000


@pytest.mark.parametrize(
    "word",
    ["w" * 500, "狗", "海边", "café", "été—Ω", "\n\t\x00", "👩‍👩‍👧", "\udcff", " ", "שלום", "<unk>"],
    ids=ascii,
)
def test_any_word_is_drawn(word: str) -> None:
    attention_figure(GREY, [word], maps(1), certainties=[0.5], title=word * 3)


def test_text_is_fitted_to_its_width() -> None:
    text, font = fonts.fit("pneumonoultramicroscopicsilicovolcanoconiosis", 16, 90)
    assert text.endswith("…")
    assert font.getlength(text) <= 90
    assert fonts.fit("dog", 16, 90)[0] == "dog"


def test_a_font_with_the_letters_is_preferred() -> None:
    builtin = fonts.font_for("dog", 16)
    assert builtin.getname()[0] == "Aileron"
    found = fonts.font_for("狗", 16)
    if found.getname() == builtin.getname():
        pytest.skip("no Chinese font is installed here; boxes are drawn instead")
    assert bytes(found.getmask("狗")) != bytes(found.getmask("海"))


def test_long_titles_wrap() -> None:
    short = attention_figure(GREY, ["a"], maps(1), title="one line")
    for title in ("many words " * 20, "海" * 90):
        long = attention_figure(GREY, ["a"], maps(1), title=title)
        assert long.width == short.width
        assert long.height > short.height


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="2 words need as many maps, got 1"):
        attention_figure(GREY, ["a", "b"], maps(1))
    with pytest.raises(ValueError, match="as many certainties, got 1"):
        attention_figure(GREY, ["a", "b"], maps(2), certainties=[1.0])
    with pytest.raises(OptionError, match="columns"):
        attention_figure(GREY, [], maps(0), columns=0)
    with pytest.raises(OptionError, match="tile"):
        attention_figure(GREY, [], maps(0), tile=3)
    with pytest.raises(OptionError, match="'dark'"):
        attention_figure(GREY, [], maps(0), style="dark")  # type: ignore[arg-type]
