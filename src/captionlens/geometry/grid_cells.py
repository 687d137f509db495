"""Cells of a grid of attention: those a word looked at most and least, and a photograph with cells blanked out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError

SHARE = 0.9  # of a word's attention that is blanked out


def attended_cells(
    map_: NDArray[np.floating[Any]], share: float = SHARE
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The places a word looked at, and as many where it looked least.

    The first set are the fewest cells, strongest first, that hold at least `share` of the map; the second are as many
    of the weakest. Among equals the first cell by rows comes first, in either set. No cell is in both: where the
    first set would be more than half of the grid, it is cut to half of it.

    Args:
        map_: weights (R, C) >= 0.
        share: of the map's sum, above 0 and at most 1.

    Returns:
        Two masks (R, C).

    Raises:
        OptionError: the share is out of bounds.
    """
    if not 0 < share <= 1:
        raise OptionError(f"share must be above 0 and at most 1, got {share}")
    weights = np.asarray(map_, np.float64).ravel()
    falling = np.argsort(-weights, kind="stable")
    held = np.cumsum(weights[falling])
    # A hair less than the share: eight cells of 1/16 add up to half, whatever rounding says.
    count = min(int(np.searchsorted(held, share * held[-1] * (1 - 1e-6))) + 1, weights.size // 2)
    strongest, weakest = np.zeros((2, weights.size), bool)
    strongest[falling[:count]] = True
    # Among equals both orders start at the same cells: what is taken already is passed over.
    rising = np.argsort(weights, kind="stable")
    weakest[rising[~strongest[rising]][:count]] = True
    return strongest.reshape(map_.shape), weakest.reshape(map_.shape)


def blank(pixels: NDArray[np.uint8], cells: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with the pixels of `cells` (R, C) in the picture's mean colour, and all others untouched.

    A pixel belongs to the cell in which its centre lies; see `drawing.heatmap` for the cells' rectangles.
    """
    height, width = pixels.shape[:2]
    rows, columns = cells.shape
    of_row = (2 * np.arange(height) + 1) * rows // (2 * height)  # (H,), the row of cells of each row of pixels
    of_column = (2 * np.arange(width) + 1) * columns // (2 * width)  # (W,)
    blanked = pixels.copy()
    blanked[cells[of_row][:, of_column]] = np.rint(pixels.mean((0, 1))).astype(np.uint8)
    return blanked
