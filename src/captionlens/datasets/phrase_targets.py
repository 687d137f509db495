"""The phrases and boxes of a caption's words, on a grid of attention: what to teach it by, and to measure it by.

A data set's captions and those of Flickr30k Entities differ in order and here and there in spelling ("grey" and
"gray", "onstage" and "on stage", slips of the pen), so each caption looks for its sentence among the photograph's.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionlens.datasets.phrases import PhrasedCaption, phrase_reader
from captionlens.datasets.records import Record
from captionlens.errors import DatasetError
from captionlens.geometry.boxes import coverage
from captionlens.runtime.vocabulary import split_words

log = logging.getLogger("captionlens")

# How alike a caption's letters and its sentence's must be (difflib's ratio). Of Flickr8k's 35,000 captions all but
# five are above; of 1,000 sentences none came above with another of the same photograph.
_ALIKE = 0.9


def phrase_of_words(caption: PhrasedCaption) -> tuple[list[str], NDArray[np.int64]]:
    """A caption's words as a vocabulary counts them, and of each (words,) the number of its phrase, -1 for none."""
    # A word of the source is no word, one or several: "." or "T-shirt".
    parts = [split_words(word) for word in caption.words]
    phrase_of = np.full(len(parts), -1)
    for number, phrase in enumerate(caption.phrases):
        phrase_of[phrase.start : phrase.end] = number
    return [word for part in parts for word in part], np.repeat(phrase_of, [len(part) for part in parts])


def caption_targets(
    caption: str, sentences: Sequence[PhrasedCaption], rows: int, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Which phrase each word of a caption belongs to, and where in the photograph it is.

    Args:
        caption: of a data set.
        sentences: the photograph's captions with their phrases.
        rows: of the grid of attention.
        columns: of the grid.

    Returns:
        (words,) the number of each word's phrase, -1 where it belongs to none that has boxes, for the words of
        `vocabulary.words`; and float32 (phrases, rows * columns), how much of each cell the phrase's boxes cover,
        from 0 to 1. Every phrase has a word. None where no sentence is this caption's.
    """
    said = split_words(caption)
    letters = "".join(said)
    written = [(sentence, *phrase_of_words(sentence)) for sentence in sentences]
    # Nearly always there is one of the same letters; comparing all would take ten times as long.
    same = [candidate for candidate in written if "".join(candidate[1]) == letters]
    best, alike = None, _ALIKE
    for candidate in same[:1] or written:
        matcher = SequenceMatcher(None, letters, "".join(candidate[1]), autojunk=False)
        if matcher.quick_ratio() >= alike and matcher.ratio() >= alike:  # the quick one is an upper bound
            best, alike = (*candidate, matcher.get_matching_blocks()), matcher.ratio()
    if best is None:
        return None
    sentence, words, phrase_of, blocks = best
    phrase_of_letter = np.repeat(phrase_of, [len(word) for word in words])
    found = np.full(len(letters), -1)
    for block in blocks:
        found[block.a : block.a + block.size] = phrase_of_letter[block.b : block.b + block.size]
    ends = np.cumsum([0, *(len(word) for word in said)])
    # A word belongs to the phrase that most of its letters belong to.
    most = [np.bincount(found[begin:end] + 1).argmax() - 1 for begin, end in pairwise(ends)]
    phrase_of_word = np.array(most, np.int64)
    kept, renumbered = np.unique(phrase_of_word[phrase_of_word >= 0], return_inverse=True)
    phrase_of_word[phrase_of_word >= 0] = renumbered
    coverages = np.zeros((len(kept), rows * columns), np.float32)
    for row, number in enumerate(kept):
        coverages[row] = coverage(sentence.phrases[number].boxes, rows, columns).ravel()
    return phrase_of_word, coverages


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
