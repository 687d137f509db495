"""Bounding boxes on an attention grid: the share of each cell that they cover, and points inside them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def coverage(boxes: NDArray[np.floating[Any]], rows: int, columns: int) -> NDArray[np.float64]:
    """Share of each grid cell that the union of the boxes covers: exact, in [0, 1].

    Args:
        boxes: (n, 4) left, top, right, bottom as fractions of width and height.
        rows: number of rows of the grid.
        columns: number of columns of the grid.

    Returns:
        float64 (rows, columns).
    """
    # The edges of all boxes and cells cut the photograph into rectangles that are inside or outside as a whole.
    left, top, right, bottom = np.clip(np.asarray(boxes, np.float64), 0, 1).T
    across = np.unique(np.concatenate([np.linspace(0, 1, columns + 1), left, right]))
    down = np.unique(np.concatenate([np.linspace(0, 1, rows + 1), top, bottom]))
    x, y = (across[1:] + across[:-1]) / 2, (down[1:] + down[:-1]) / 2
    in_columns = (left[:, None] < x) & (x < right[:, None])  # (n, X)
    in_rows = (top[:, None] < y) & (y < bottom[:, None])  # (n, Y)
    inside = (in_rows[:, :, None] & in_columns[:, None, :]).any(0)  # (Y, X)
    areas = inside * np.diff(down)[:, None] * np.diff(across)
    column, row = (x * columns).astype(int), (y * rows).astype(int)
    covered = np.zeros((rows, columns))
    np.add.at(covered, (row[:, None], column[None, :]), areas)
    # Rounding of the edges may make it slightly more than a cell.
    return np.minimum(covered * (rows * columns), 1.0)


def in_a_box(x: float, y: float, boxes: NDArray[np.floating[Any]]) -> bool:
    """Whether a point lies in one of the boxes (n, 4) or on its edge; all are fractions of width and height."""
    left, top, right, bottom = boxes.T
    return bool(((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).any())
