"""Maps over photographs: the right place, nothing invented, legible everywhere."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.drawing import heatmap
from captionlens.drawing.heatmap import Style
from captionlens.errors import OptionError


def one_hot(rows: int, columns: int, row: int, column: int) -> NDArray[np.float32]:
    map_ = np.zeros((rows, columns), np.float32)
    map_[row, column] = 1
    return map_


@pytest.mark.parametrize("size", [(224, 224), (640, 427), (100, 333), (61, 47)])
@pytest.mark.parametrize("cell", [(0, 0), (0, 6), (5, 0), (5, 6), (2, 3)])
def test_the_peak_lies_in_its_cell(size: tuple[int, int], cell: tuple[int, int]) -> None:
    smoothed = heatmap.smooth(one_hot(6, 7, *cell), size)
    width, height = size
    assert smoothed.shape == (height, width)
    assert smoothed.dtype == np.float32
    y, x = np.unravel_index(smoothed.argmax(), smoothed.shape)
    assert cell == (int((y + 0.5) * 6 / height), int((x + 0.5) * 7 / width))


@pytest.mark.parametrize("cell", [(0, 0), (3, 3), (6, 2)])
def test_the_centre_of_mass_of_a_cell_inside_is_the_cells_centre(cell: tuple[int, int]) -> None:
    smoothed = heatmap.smooth(one_hot(9, 9, *(1 + np.array(cell))), (180, 90))
    ys, xs = np.mgrid[:90, :180] + 0.5
    assert (smoothed * ys).sum() / smoothed.sum() == pytest.approx((cell[0] + 1.5) * 10, abs=0.05)
    assert (smoothed * xs).sum() / smoothed.sum() == pytest.approx((cell[1] + 1.5) * 20, abs=0.05)


def test_smoothing_keeps_the_mean_and_is_never_negative() -> None:
    map_ = np.random.default_rng(0).dirichlet(np.full(64, 0.1)).reshape(8, 8).astype(np.float32)
    smoothed = heatmap.smooth(map_, (320, 240))
    assert smoothed.min() >= 0
    assert smoothed.mean() == pytest.approx(map_.mean(), rel=1e-3)
    assert smoothed.max() <= map_.max()


def test_smoothing_is_the_b_spline_by_its_definition() -> None:
    """Oracle: three boxes a cell wide, convolved with the cells as impulses, mirrored at the edges."""
    cells, fine = 5, 200  # samples a cell
    map_ = np.random.default_rng(1).random((1, cells)).astype(np.float32)
    mirrored = np.concatenate([map_[0, ::-1], map_[0], map_[0, ::-1]])
    signal = np.repeat(mirrored, fine)  # the first box: every cell's value over its whole width
    box = np.ones(fine + 1) / fine
    box[[0, -1]] /= 2
    for _ in range(2):
        signal = np.convolve(signal, box, "same")
    expected = signal[cells * fine : 2 * cells * fine]
    assert np.allclose(heatmap.smooth(map_, (cells * fine, 1))[0], expected, atol=5e-3)


@pytest.mark.parametrize("style", ["heat", "light"])
def test_a_uniform_map_looks_uniform(style: Style) -> None:
    photograph = Image.new("RGB", (120, 90), (90, 120, 60))
    drawn = np.asarray(heatmap.overlay(photograph, np.full((7, 7), 1 / 49, np.float32), style=style))
    assert np.ptp(drawn.reshape(-1, 3), axis=0).max() <= 1


def test_noise_around_uniform_is_not_stretched() -> None:
    noise = np.random.default_rng(0).uniform(0.9, 1.1, (8, 8))
    strength = heatmap.strength((noise / noise.sum()).astype(np.float32), (64, 64))
    assert np.ptp(strength) < 0.1
    assert strength.mean() == pytest.approx(1 / heatmap.FLOOR, abs=0.02)


def test_a_sharp_map_uses_the_full_range() -> None:
    strength = heatmap.strength(one_hot(8, 8, 4, 4), (256, 256))
    assert strength.max() == pytest.approx(1)
    assert strength.min() == 0


@pytest.mark.parametrize("style", ["heat", "light"])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_more_attention_is_brighter_on_dark_and_bright_photographs(style: Style, grey: int) -> None:
    ramp = np.linspace(0, 1, 16, dtype=np.float32)[None] ** 3
    drawn = heatmap.overlay(Image.new("RGB", (320, 20), (grey,) * 3), ramp / ramp.sum(), style=style)
    lightness = np.asarray(drawn.convert("L"), int)[10, 10:-10]
    assert np.diff(lightness).min() >= -1  # rounding
    assert lightness[-1] - lightness[0] > 50


def test_all_of_a_map_at_zero_is_drawn_dark() -> None:
    drawn = heatmap.overlay(Image.new("RGB", (20, 20), "white"), np.zeros((2, 2), np.float32), style="light")
    assert np.asarray(drawn).max() == round(0.4 * 255)


@pytest.mark.parametrize(
    ("size", "expected"), [((1280, 960), (640, 480)), ((320, 240), (320, 240)), ((5000, 1), (640, 1))]
)
def test_large_photographs_are_reduced_and_small_ones_left(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert heatmap.overlay(Image.new("RGB", size), one_hot(2, 2, 0, 0)).size == expected


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_of_picture_is_drawn(mode: str) -> None:
    assert heatmap.overlay(Image.new(mode, (30, 20)), one_hot(3, 3, 1, 1)).mode == "RGB"


def test_colours_hit_the_ends_of_inferno_and_rise_in_lightness() -> None:
    shades = heatmap.colours(np.linspace(0, 1, 256, dtype=np.float32))
    assert tuple(shades[0]) == (0, 0, 4)
    assert tuple(shades[-1]) == (252, 255, 164)
    assert np.diff(shades @ np.array([0.2126, 0.7152, 0.0722])).min() > 0


@pytest.mark.parametrize("bad", [np.zeros(4), np.zeros((0, 3)), np.array([[np.nan, 1]]), np.array([[-0.1, 1]])])
def test_what_is_no_map_is_refused(bad: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="a map"):
        heatmap.smooth(bad, (10, 10))


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="'jet'"):
        heatmap.overlay(Image.new("RGB", (4, 4)), one_hot(2, 2, 0, 0), style="jet")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="max_side"):
        heatmap.overlay(Image.new("RGB", (4, 4)), one_hot(2, 2, 0, 0), max_side=0)
    with pytest.raises(ValueError, match="0x3"):
        heatmap.smooth(one_hot(2, 2, 0, 0), (0, 3))
