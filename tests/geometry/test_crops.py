"""Random crops: their sizes, and the coverage of cells after them."""

import numpy as np
import pytest

from captionlens.geometry.boxes import coverage
from captionlens.geometry.crops import crop_coverage, draw_crop


@pytest.mark.parametrize("smallest", [0.2, 0.7, 0.99])
def test_crops_lie_inside_and_are_large_enough(smallest: float) -> None:
    rng = np.random.default_rng(3)
    crops = np.array([draw_crop(rng, smallest) for _ in range(2000)])
    assert crops.min() >= 0
    assert crops.max() <= 1 + 1e-9
    width, height = crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]
    area = width * height
    assert area.min() >= smallest - 1e-9
    assert area.mean() == pytest.approx((1 + smallest) / 2, abs=0.02)
    assert (width / height).max() <= 4 / 3 + 1e-9
    assert (height / width).max() <= 4 / 3 + 1e-9
    assert 0.45 < (width > height).mean() < 0.55
    assert crops[:, 0].mean() == pytest.approx((1 - width).mean() / 2, abs=0.02)


def test_coverage_of_a_crop_is_that_of_the_moved_box() -> None:
    """A box that fills cells of the crop's grid exactly: both ways to its coverage agree."""
    crop = (0.2, 0.4, 0.7, 0.9)
    box = np.array([[0.3, 0.5, 0.5, 0.7]], np.float32)
    whole = coverage(box, 10, 10).astype(np.float32).reshape(1, 10, 10)
    moved = coverage(np.array([[0.2, 0.2, 0.6, 0.6]], np.float32), 10, 10).reshape(1, 10, 10)
    np.testing.assert_allclose(crop_coverage(whole, crop), moved, atol=1e-5)


def test_whole_photograph_changes_nothing_and_what_is_outside_is_gone() -> None:
    grid = np.random.default_rng(0).random((2, 7, 5), np.float32)
    np.testing.assert_allclose(crop_coverage(grid, (0, 0, 1, 1)), grid, rtol=1e-6)
    corner = np.zeros((1, 10, 10), np.float32)
    corner[0, 0, 0] = 1
    assert crop_coverage(corner, (0.5, 0.5, 1, 1)).sum() == 0
