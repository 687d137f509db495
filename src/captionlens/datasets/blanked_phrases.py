"""Choice of the cells to blank out in a training photograph: part of the object of one of its phrases.

`features.extract` makes the grids of such photographs, for the objective `training.objectives.blanking`.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionlens.datasets.phrase_targets import CaptionTargets, TargetsReader
from captionlens.datasets.records import Record

_LEAST_PART = 0.5  # smallest share of the cells of a phrase's boxes to blank out; the share is random, up to 1


@dataclass(frozen=True, slots=True, eq=False)
class BlankedPhrase:
    """A phrase of a photograph, and the cells that are blanked out for it.

    Attributes:
        coverage: share of each cell that the boxes of the phrase cover (rows, columns).
        cells: mask of the blanked cells (rows, columns).
    """

    coverage: NDArray[np.float32]
    cells: NDArray[np.bool_]


BlankedReader = Callable[[Record], BlankedPhrase | None]


def blanked_reader(targets: TargetsReader) -> BlankedReader:
    """Make a reader of the phrase to blank out in a photograph; see `choose_phrase`."""
    return lambda record: choose_phrase(record.source_id, targets(record))


def blanked_cells(blanked: BlankedReader) -> Callable[[Record], NDArray[np.bool_] | None]:
    """Make a reader of the cells (R, C) to blank out in a photograph, for `features.extract`."""

    def cells(record: Record) -> NDArray[np.bool_] | None:
        chosen = blanked(record)
        return None if chosen is None else chosen.cells

    return cells


def choose_phrase(name: str, targets: Sequence[CaptionTargets | None]) -> BlankedPhrase | None:
    """Choose a phrase to blank out, always the same one for the same photograph.

    Of the cells that its boxes cover by half or more, a random share is blanked out, those nearest to their centre:
    captioners recognise objects by parts, and attend to these. At most half of the grid is blanked out, as in
    `geometry.grid_cells`.

    Args:
        name: of the photograph, the only seed of the random choice.
        targets: of its captions.

    Returns:
        None where no phrase is suitable.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    fit = [
        coverage for target in targets if target is not None for coverage in target.coverages if (coverage >= 0.5).any()
    ]
    if not fit:
        return None
    chosen = fit[rng.integers(len(fit))]
    filled = chosen >= 0.5
    count = min(max(1, round(rng.uniform(_LEAST_PART, 1) * filled.sum())), filled.size // 2)
    return BlankedPhrase(chosen, _middle(filled, count))


def _middle(cells: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Select the `count` cells of a mask (R, C) that are nearest to its centre of mass."""
    places = np.argwhere(cells)
    distances = np.square(places - places.mean(0)).sum(1)
    nearest = places[np.argsort(distances, kind="stable")[:count]]
    kept = np.zeros_like(cells)
    kept[tuple(nearest.T)] = True
    return kept
