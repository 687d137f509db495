"""What heatmap.mjs says of maps; what it draws is held against drawing.heatmap in the tests of the report and pages."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from captionlens.frontend.assets import bundle, drawing_settings, read


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """An empty page with the functions of heatmap.mjs."""
    opened = browser.new_page()
    script = bundle(read("heatmap.mjs"))
    opened.set_content(
        f'<body {drawing_settings()}><script type="module">{script}\nwindow.heatmap = {{ whereabouts }};</script>'
    )
    opened.wait_for_function("window.heatmap")
    yield opened
    opened.close()


def whereabouts(page: Any, map_: NDArray[np.float64]) -> str:
    found: str = page.evaluate("(map) => heatmap.whereabouts(map)", map_.tolist())
    return found


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ((0, 0), "upper left"),
        ((0, 4), "upper middle"),
        ((4, 8), "right middle"),
        ((8, 8), "lower right"),
        ((4, 4), "centre"),
    ],
)
def test_whereabouts(page: Any, cell: tuple[int, int], expected: str) -> None:
    map_ = np.zeros((9, 9))
    map_[cell] = 1
    assert whereabouts(page, map_) == expected


def test_whereabouts_of_a_grid_that_is_no_square(page: Any) -> None:
    map_ = np.full((3, 4), 0.1 / 11)
    map_[2, 2] = 0.9
    assert whereabouts(page, map_) == "lower middle"


def test_whereabouts_of_a_flat_map(page: Any) -> None:
    assert whereabouts(page, np.full((4, 4), 1 / 16)) == "all over"
    assert whereabouts(page, np.ones((1, 1))) == "all over"
