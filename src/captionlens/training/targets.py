"""Where the words of training captions should look, from a folder of phrases and boxes."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionlens.datasets.phrase_targets import caption_targets
from captionlens.datasets.phrases import phrase_reader
from captionlens.datasets.records import Record
from captionlens.errors import DatasetError

log = logging.getLogger("captionlens")


@dataclass(frozen=True, slots=True, eq=False)
class CaptionTargets:
    """Where the words of a caption should look.

    Attributes:
        phrase_of_word: of each word (words,) the number of its phrase, or -1.
        coverages: how much of each place the boxes of a phrase cover, from 0 to 1 (phrases, rows, columns).
    """

    phrase_of_word: NDArray[np.int64]
    coverages: NDArray[np.float32]

    def mirrored(self) -> "CaptionTargets":
        """The same of the mirrored photograph."""
        return CaptionTargets(self.phrase_of_word, self.coverages[:, :, ::-1])


TargetsReader = Callable[[Record], list[CaptionTargets | None]]


def targets_reader(folder: str | Path, rows: int, columns: int) -> TargetsReader:
    """What reads the targets of a photograph's captions, None for a caption that is not among the boxes' sentences.

    A photograph whose phrases cannot be read is told of and has none.

    Args:
        folder: as for `datasets.phrases.phrase_reader`.
        rows: of the grid of attention.
        columns: of the grid.

    Raises:
        DatasetError: the folder holds no phrases.
    """
    phrases_of = phrase_reader(folder)

    def targets(record: Record) -> list[CaptionTargets | None]:
        try:
            phrased = phrases_of(record)
        except DatasetError as error:
            log.warning("no boxes for %s: %s", record.image, error)
            return []
        found = (caption_targets(caption, phrased, rows, columns) for caption in record.captions)
        return [
            None if target is None else CaptionTargets(target[0], target[1].reshape(-1, rows, columns))
            for target in found
        ]

    return targets
