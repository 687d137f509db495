"""Cells of an attention grid: the most and least attended ones of a word, and their blanking in the photograph."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError

SHARE = 0.9  # of a word's attention that is blanked out


def attended_cells(
    map_: NDArray[np.floating[Any]], share: float = SHARE
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The most attended cells of a word, and as many of the least attended ones.

    The first set is the smallest one that holds at least `share` of the map; the second are as many of the weakest
    cells. Ties go to the first cell in row-major order, in either set. The sets are disjoint: where the first would
    be more than half of the grid, it is cut to half.

    Args:
        map_: weights (R, C) >= 0.
        share: fraction of the map's sum, above 0 and at most 1.

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
    # A tolerance below the share: eight cells of 1/16 add up to half, whatever rounding says.
    count = min(int(np.searchsorted(held, share * held[-1] * (1 - 1e-6))) + 1, weights.size // 2)
    strongest, weakest = np.zeros((2, weights.size), bool)
    strongest[falling[:count]] = True
    # Among equal weights both orders start at the same cells: those already taken are passed over.
    rising = np.argsort(weights, kind="stable")
    weakest[rising[~strongest[rising]][:count]] = True
    return strongest.reshape(map_.shape), weakest.reshape(map_.shape)


def blank(pixels: NDArray[np.uint8], cells: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill the pixels of `cells` (R, C) with the mean colour of the picture (H, W, 3); the others stay.

    A pixel belongs to the cell in which its centre lies; see `drawing.heatmap` for the cells' rectangles.
    """
    height, width = pixels.shape[:2]
    rows, columns = cells.shape
    of_row = (2 * np.arange(height) + 1) * rows // (2 * height)  # (H,), the row of cells of each row of pixels
    of_column = (2 * np.arange(width) + 1) * columns // (2 * width)  # (W,)
    blanked = pixels.copy()
    blanked[cells[of_row][:, of_column]] = np.rint(pixels.mean((0, 1))).astype(np.uint8)
    return blanked
