"""Photographs in which what a phrase names is blanked out: what a captioner must not see there, and what it still must.

Trained on photographs as they are, a captioner may know a word from all that surrounds the thing, or from its outline.
Hendricks, Burns, Saenko, Darrell and Rohrbach, "Women also Snowboard: Overcoming Bias in Captioning Models", ECCV 2018,
hide people and ask that words for women and men become equally likely. Here any phrase with boxes is hidden, and its
last word, which in English names the thing, is to become less likely, while the words of phrases that are seen stay as
likely as they were.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captionlens.datasets.phrase_targets import CaptionTargets, TargetsReader
from captionlens.datasets.records import Record

HIDDEN, SEEN = -1, 1  # what is wanted of a word: unlikely, likely; of others nothing, 0

_LEAST_PART = 0.5  # of the cells of a phrase's boxes that is blanked out; more by chance, up to all
_STILL_SEEN = 0.2  # of another phrase's boxes: at most so much may be gone for its words to stay likely


@dataclass(frozen=True, slots=True, eq=False)
class BlankedPhrase:
    """A photograph without what one of its phrases names, and what is wanted of its captions there.

    Attributes:
        cells: that are blanked out (rows, columns).
        wanted: of each caption, of each of its words (words,) HIDDEN, SEEN or 0; None for a caption of which nothing is
            known.
    """

    cells: NDArray[np.bool_]
    wanted: tuple[NDArray[np.int64] | None, ...]


BlankedReader = Callable[[Record], BlankedPhrase | None]


def blanked_reader(targets: TargetsReader) -> BlankedReader:
    """What tells of a photograph which phrase to blank out; see `choose_phrase`."""
    return lambda record: choose_phrase(record.source_id, targets(record))


def blanked_cells(blanked: BlankedReader) -> Callable[[Record], NDArray[np.bool_] | None]:
    """What tells of a photograph which cells (R, C) to blank out, as `features.extract` wants it."""

    def cells(record: Record) -> NDArray[np.bool_] | None:
        chosen = blanked(record)
        return None if chosen is None else chosen.cells

    return cells


def choose_phrase(name: str, targets: Sequence[CaptionTargets | None]) -> BlankedPhrase | None:
    """A phrase to blank out, always the same one for the same photograph.

    Of the cells that its boxes fill by half or more, a part is blanked out, those around their middle: captioners look
    at a part of a thing, and know it by that. It is at most half of the grid, as in `geometry.cells`. Other
    phrases of which as much is gone, in this or another caption, are hidden too.

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
    cells = _middle(filled, count)
    gone = _part(chosen, cells)
    return BlankedPhrase(cells, tuple(None if target is None else _wanted(target, cells, gone) for target in targets))


def _wanted(target: CaptionTargets, cells: NDArray[np.bool_], gone: float) -> NDArray[np.int64]:
    """Of each word what is wanted of it, where the phrases are hidden of which at least the part `gone` is gone."""
    of_word = target.phrase_of_word
    wanted = np.zeros(len(of_word), np.int64)
    for phrase, coverage in enumerate(target.coverages):
        words = np.flatnonzero(of_word == phrase)
        part = _part(coverage, cells)
        if part >= gone:
            wanted[words[-1]] = HIDDEN
        elif part <= _STILL_SEEN:
            wanted[words] = SEEN
    return wanted


def _part(coverage: NDArray[np.float32], cells: NDArray[np.bool_]) -> float:
    """How much of what covers the grid so (R, C) lies in these cells."""
    return float(coverage[cells].sum(dtype=np.float64) / coverage.sum(dtype=np.float64))


def _middle(cells: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """So many of some cells (R, C), those nearest to their mean place."""
    places = np.argwhere(cells)
    distances = np.square(places - places.mean(0)).sum(1)
    nearest = places[np.argsort(distances, kind="stable")[:count]]
    kept = np.zeros_like(cells)
    kept[tuple(nearest.T)] = True
    return kept
