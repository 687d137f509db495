"""Choice of what is blanked out of a training photograph: a part of what one of its phrases names.

Extraction makes the grids of such photographs; `training.objectives.blanking` tells what they are good for.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionlens.datasets.phrase_targets import CaptionTargets, TargetsReader
from captionlens.datasets.records import Record

_LEAST_PART = 0.5  # of the cells of a phrase's boxes that is blanked out; more by chance, up to all


@dataclass(frozen=True, slots=True, eq=False)
class BlankedPhrase:
    """A phrase of a photograph, and what is blanked out for it.

    Attributes:
        coverage: how much of each cell the boxes of the phrase cover, from 0 to 1 (rows, columns).
        cells: that are blanked out (rows, columns).
    """

    coverage: NDArray[np.float32]
    cells: NDArray[np.bool_]


BlankedReader = Callable[[Record], BlankedPhrase | None]


def blanked_reader(targets: TargetsReader) -> BlankedReader:
    """Reader of a photograph's phrase that is blanked out; see `choose_phrase`."""
    return lambda record: choose_phrase(record.source_id, targets(record))


def blanked_cells(blanked: BlankedReader) -> Callable[[Record], NDArray[np.bool_] | None]:
    """Reader of the cells (R, C) that are blanked out of a photograph, as `features.extract` wants it."""

    def cells(record: Record) -> NDArray[np.bool_] | None:
        chosen = blanked(record)
        return None if chosen is None else chosen.cells

    return cells


def choose_phrase(name: str, targets: Sequence[CaptionTargets | None]) -> BlankedPhrase | None:
    """A phrase to blank out, always the same one for the same photograph.

    Of the cells that its boxes fill by half or more, a part is blanked out, those around their middle: captioners look
    at a part of a thing, and know it by that. It is at most half of the grid, as in `geometry.grid_cells`.

    Args:
        name: of the photograph; what is drawn depends on it and on nothing else.
        targets: of its captions.

    Returns:
        None where no phrase is fit for it.
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
    """So many of some cells (R, C), those nearest to their mean place."""
    places = np.argwhere(cells)
    distances = np.square(places - places.mean(0)).sum(1)
    nearest = places[np.argsort(distances, kind="stable")[:count]]
    kept = np.zeros_like(cells)
    kept[tuple(nearest.T)] = True
    return kept
