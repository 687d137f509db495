"""Which cells a word looked at, which pixels are theirs, and what is concluded from probabilities."""

from itertools import combinations

import numpy as np
import pytest

from captionlens.errors import OptionError
from captionlens.geometry.grid_cells import attended_cells, blank
from captionlens.runtime.faithfulness import Faithfulness


def cells(*numbers: int, shape: tuple[int, int] = (2, 3)) -> list[list[bool]]:
    return [[row * shape[1] + column in numbers for column in range(shape[1])] for row in range(shape[0])]


def test_the_fewest_strongest_cells_and_as_many_of_the_weakest() -> None:
    strongest, weakest = attended_cells(np.array([[0.3, 0.05, 0.25], [0.02, 0.2, 0.18]], np.float32), 0.5)
    assert strongest.tolist() == cells(0, 2)  # 0.55; one cell alone holds 0.3
    assert weakest.tolist() == cells(3, 1)
    strongest, weakest = attended_cells(np.array([[0.01, 0.04, 0.02], [0.9, 0.03, 0.0]], np.float32), 0.5)
    assert strongest.tolist() == cells(3)
    assert weakest.tolist() == cells(5)


def test_nine_tenths_unless_told_otherwise() -> None:
    strongest, weakest = attended_cells(np.array([[0.6, 0.01, 0.31], [0.02, 0.03, 0.03]], np.float32))
    assert strongest.tolist() == cells(0, 2)  # 0.91
    assert weakest.tolist() == cells(1, 3)


def test_exactly_half_is_enough() -> None:
    map_ = np.array([[0.17, 0.29, 0.01], [0.16, 0.21, 0.16]], np.float32)
    assert map_.astype(float)[[0, 1], [1, 1]].sum() < map_.astype(float).sum() / 2  # by less than the floats can say
    for scale in (1, 7):  # a share: whatever the sum is
        assert attended_cells(scale * map_, 0.5)[0].tolist() == cells(1, 4)


def test_the_first_cell_wins_a_tie_and_none_is_in_both() -> None:
    strongest, weakest = attended_cells(np.full((2, 3), 1 / 6, np.float32), 0.5)
    assert strongest.tolist() == cells(0, 1, 2)
    assert weakest.tolist() == cells(3, 4, 5)
    strongest, weakest = attended_cells(np.full((3, 3), 1 / 9, np.float32), 0.5)  # half of it takes five of nine cells
    assert strongest.tolist() == cells(0, 1, 2, 3, shape=(3, 3))
    assert weakest.tolist() == cells(4, 5, 6, 7, shape=(3, 3))
    for mask in attended_cells(np.ones((1, 1), np.float32), 0.5):
        assert not mask.any()


@pytest.mark.parametrize("seed", range(20))
def test_no_fewer_cells_would_do(seed: int) -> None:
    """Against all sets of cells there are."""
    random = np.random.default_rng(seed)
    map_ = random.dirichlet(np.full(9, 0.5)).reshape(3, 3)
    strongest, weakest = attended_cells(map_, 0.5)
    count = int(strongest.sum())
    assert map_[strongest].sum() >= 0.5
    assert all(sum(chosen) < 0.5 for chosen in combinations(map_.ravel(), count - 1))
    sums = [sum(chosen) for chosen in combinations(map_.ravel(), count)]
    assert map_[strongest].sum() == pytest.approx(max(sums))
    assert map_[weakest].sum() == pytest.approx(min(sums))
    assert weakest.sum() == count
    assert not (strongest & weakest).any()


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_shares_that_make_no_sense(share: float) -> None:
    with pytest.raises(OptionError, match=f"share .*got {share}"):
        attended_cells(np.ones((2, 2)), share)


@pytest.mark.parametrize(("rows", "columns", "height", "width"), [(2, 3, 4, 6), (3, 2, 7, 9), (9, 9, 260, 260)])
def test_blanking_touches_the_pixels_of_the_cells_and_no_others(
    rows: int, columns: int, height: int, width: int
) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 100, (height, width, 3), np.uint8)
    pixels[..., 1] += 100
    before = pixels.copy()
    chosen = random.random((rows, columns)) < 0.5
    chosen.flat[:2] = True, False
    blanked = blank(pixels, chosen)
    mean = [round(float(pixels[..., channel].mean())) for channel in range(3)]
    for y in range(height):
        for x in range(width):
            inside = chosen[int((y + 0.5) / height * rows), int((x + 0.5) / width * columns)]
            if inside:
                assert blanked[y, x].tolist() == mean
            else:
                assert (blanked[y, x] == pixels[y, x]).all()
    assert (pixels == before).all()  # the picture itself stays


@pytest.mark.parametrize(
    ("probability", "blanked", "control", "depends"),
    [
        (0.8, 0.2, 0.7, True),
        (0.8, 0.73, 0.8, False),  # less than a tenth of it
        (0.8, 0.71, 0.8, True),
        (0.8, 0.2, 0.1, False),  # any blank does that
        (0.8, 0.2, 0.2, False),
        (0.8, 0.9, 0.95, False),
    ],
)
def test_what_depends_on_the_picture(probability: float, blanked: float, control: float, depends: bool) -> None:
    word = Faithfulness(probability, blanked, control)
    assert word.depends_on_picture == depends
    assert word.falls_more == (word.fall > word.control_fall)
