"""Random crops of photographs, and the coverage of grid cells after a crop."""

import math

import numpy as np
from numpy.typing import NDArray

Crop = tuple[float, float, float, float]  # left, top, right, bottom, fractions of width and height

_STRETCH = 4 / 3  # largest ratio of a crop's relative width to its relative height, and the reverse


def draw_crop(rng: np.random.Generator, smallest: float) -> Crop:
    """Draw a crop: its part of the area between `smallest` and 1, then its shape, then its place, each uniformly.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6, there from 8 % on.
    """
    area = rng.uniform(smallest, 1)
    # With the logarithm uniform, wide is as likely as high; neither side may exceed the photograph.
    most = min(math.log(_STRETCH), -math.log(area))
    ratio = math.exp(rng.uniform(-most, most))
    width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return left, top, left + width, top + height


def crop_coverage(coverage: NDArray[np.float32], crop: Crop) -> NDArray[np.float32]:
    """Coverage (..., R, C) of the cells of a grid over the crop, from that of the same grid over the photograph.

    A cell of the crop has the mean coverage of the part of the photograph that it shows.
    """
    left, top, right, bottom = crop
    rows = _shares(top, bottom, coverage.shape[-2])
    columns = _shares(left, right, coverage.shape[-1])
    cropped: NDArray[np.float32] = (rows @ coverage @ columns.T).astype(np.float32)
    return cropped


def _shares(begin: float, end: float, count: int) -> NDArray[np.float64]:
    """Share of each of `count` equal parts of [0, 1] in each of as many equal parts of [begin, end] (count, count)."""
    new = np.linspace(begin, end, count + 1) * count
    old = np.arange(count)
    overlap = np.minimum(new[1:, None], old + 1) - np.maximum(new[:-1, None], old)
    shares: NDArray[np.float64] = np.maximum(overlap, 0) / (new[1] - new[0])
    return shares
