"""Heat maps: attention weights of a grid, upsampled to the photograph's size and laid over it.

Cell (r, c) of a map of R rows and C columns stands for the rectangle [c W/C, (c+1) W/C) x [r H/R, (r+1) H/R)
of a photograph W pixels wide and H high.
"""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionlens.errors import OptionError

Style = Literal["heat", "light"]

# A map whose peak is below FLOOR times the uniform weight 1 / (R C) is not stretched to the full range:
# otherwise uniform attention would show whatever the noise favours.
FLOOR = 3.0

# Inferno, 17 evenly spaced colours, straight lines in between (within 7/255 of the original): perceptually
# uniform, rising in lightness all the way, and so as readable for colour-blind people and in grey print.
# Nathaniel J. Smith, Stefan van der Walt, Eric Firing, 2015; CC0. https://bids.github.io/colormap/
INFERNO = (
    (0, 0, 4), (11, 7, 36), (33, 12, 74), (61, 9, 101), (87, 16, 110), (113, 25, 110), (138, 34, 106),
    (163, 44, 97), (188, 55, 84), (210, 70, 68), (228, 90, 49), (241, 115, 29), (249, 142, 9),
    (252, 172, 17), (249, 203, 53), (242, 234, 105), (252, 255, 164),
)  # fmt: skip

# As a table, which is many times faster than interpolating every pixel.
_SHADES = np.stack(
    [np.interp(np.linspace(0, 16, 1024), np.arange(17), channel) for channel in zip(*INFERNO, strict=True)],
    axis=-1,
).astype(np.float32)  # (1024, 3)

HEAT_OPACITY = (0.42, 0.7)  # of the colours over the photograph, at the least and at the most attended pixels
HEAT_SATURATION = 0.25  # of the photograph's own colours under them
LIGHT_OPACITY = 0.6  # Xu et al. (2015), "Show, Attend and Tell", and the tutorials after it


def smooth(map_: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Upsample a map to every pixel of a photograph.

    The weights are the control values of a uniform quadratic B-spline, mirrored at the edges (Unser,
    Aldroubi, Eden, "B-spline signal processing", 1993). It has no negative lobes, unlike bicubic
    interpolation, so no pixel becomes negative; a uniform map stays uniform; and the mean over the
    pixels is the mean over the cells, up to the sampling at pixel centres.

    Args:
        map_: weights (R, C), finite and not negative.
        size: the photograph's (width, height) in pixels.

    Returns:
        float32 (height, width), in the unit of the map (weight per cell).

    Raises:
        ValueError: the map is not a grid of finite weights >= 0, or the size has no pixels.
    """
    grid = _checked(map_)
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"size must be at least 1x1 pixels, got {width}x{height}")
    rows, columns = grid.shape
    spread = _spline(rows, height) @ grid @ _spline(columns, width).T  # (H, R) (R, C) (C, W)
    return np.asarray(spread, np.float32)


def strength(map_: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Strength of the marking at every pixel, float32 (height, width) in [0, 1]; see FLOOR for the scale.

    Raises:
        ValueError: as `smooth`.
    """
    spread = smooth(map_, size)
    cells = float(np.asarray(map_).size)
    scale: float = max(float(spread.max()), FLOOR / cells)
    return spread / np.float32(scale)


def overlay(
    image: Image.Image, map_: NDArray[np.float32], *, style: Style = "heat", max_side: int = 640
) -> Image.Image:
    """Lay a map over the photograph.

    `heat` greys the photograph and colours it from black (not attended) to yellow (attended most); it is readable
    on dark and on bright photographs alike. `light` is the style of the figures in Xu et al. (2015): the
    photograph in its own colours, bright where it is attended.

    Args:
        image: the photograph, of any mode.
        map_: weights (R, C) >= 0.
        style: `heat` or `light`.
        max_side: longest side in pixels; a larger photograph is reduced to it first.

    Returns:
        A PIL image of mode RGB with the photograph's aspect ratio.

    Raises:
        OptionError: the style is not known, or `max_side` is below 1.
        ValueError: as `smooth`.
    """
    check_style(style)
    if max_side < 1:
        raise OptionError(f"max_side must be at least 1 pixel, got {max_side}")
    reduced = reduce(image, max_side)
    pixels = np.asarray(reduced, np.float32)  # (H, W, 3)
    marked = strength(map_, reduced.size)[:, :, None]  # (H, W, 1)
    if style == "light":
        mixed = (1 - LIGHT_OPACITY) * pixels + LIGHT_OPACITY * 255 * marked
    else:
        grey = np.asarray(reduced.convert("L"), np.float32)[:, :, None]
        calm = HEAT_SATURATION * pixels + (1 - HEAT_SATURATION) * grey
        # Squared, so that marking never darkens: not even white pictures, under the dark half of the colours.
        opacity = HEAT_OPACITY[0] + (HEAT_OPACITY[1] - HEAT_OPACITY[0]) * marked**2
        mixed = (1 - opacity) * calm + opacity * colours(marked[:, :, 0])
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def colours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map values in [0, 1] to Inferno's colours: (...) to float32 (..., 3) in [0, 255]."""
    return _SHADES[np.rint(np.clip(values, 0, 1) * (len(_SHADES) - 1)).astype(np.intp)]


def reduce(image: Image.Image, max_side: int) -> Image.Image:
    """Reduce the photograph until neither side exceeds `max_side` pixels, and convert it to RGB; never enlarge it."""
    longest = max(image.size)
    if longest > max_side:
        width, height = (max(1, round(side * max_side / longest)) for side in image.size)
        image = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image.convert("RGB")


def check_style(style: str) -> None:
    """Refuse a style that does not exist.

    Raises:
        OptionError: it is neither `heat` nor `light`.
    """
    if style not in get_args(Style):
        raise OptionError(f"style must be one of {', '.join(get_args(Style))}, got {style!r}")


def _checked(map_: Any) -> NDArray[np.float64]:
    grid = np.asarray(map_, np.float64)
    if grid.ndim != 2 or grid.size == 0:
        raise ValueError(f"a map has rows and columns, got an array of shape {grid.shape}")
    if not np.isfinite(grid).all() or grid.min() < 0:
        raise ValueError("a map holds finite weights >= 0")
    return grid


def _spline(cells: int, pixels: int) -> NDArray[np.float64]:
    """Weight of every cell at every pixel centre along one axis: (pixels, cells); rows sum to 1."""
    place = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5  # in cells; cell i has its centre at i
    nearest = np.floor(place + 0.5).astype(np.intp)
    offset = place - nearest  # in [-0.5, 0.5)
    weights = np.zeros((pixels, cells))
    taps = ((-1, (0.5 - offset) ** 2 / 2), (0, 0.75 - offset**2), (1, (0.5 + offset) ** 2 / 2))
    for step, weight in taps:
        cell = np.clip(nearest + step, 0, cells - 1)  # the mirror of the cell beyond the edge is the edge cell
        np.add.at(weights, (np.arange(pixels), cell), weight)
    return weights
