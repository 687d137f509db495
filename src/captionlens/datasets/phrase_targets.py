"""Attention targets: the phrase of each word of a caption, and the grid cells that the phrase's boxes cover.

The captions of a data set and those of Flickr30k Entities differ in order, and now and then in spelling ("grey" and
"gray", "onstage" and "on stage", typing errors). So each caption is matched with the sentences of its photograph.
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
from captionlens.errors import DatasetError, PhrasesMissing
from captionlens.geometry.boxes import coverage
from captionlens.geometry.crops import Crop, crop_coverage
from captionlens.runtime.vocabulary import split_words

log = logging.getLogger("captionlens")

# Smallest similarity (difflib's ratio) of the letters of a caption and its sentence. Of Flickr8k's 35,000 captions all
# but five are above; of 1,000 sentences none was above it with another sentence of the same photograph.
_ALIKE = 0.9
_NAMED = 5  # photographs without phrases that are named


def phrase_of_words(caption: PhrasedCaption) -> tuple[list[str], NDArray[np.int64]]:
    """Words of a caption as a vocabulary splits them, and the index of each word's phrase (words,), -1 for none."""
    # A word of the source gives no word (".") or several ("T-shirt").
    parts = [split_words(word) for word in caption.words]
    phrase_of = np.full(len(parts), -1)
    for number, phrase in enumerate(caption.phrases):
        phrase_of[phrase.start : phrase.end] = number
    return [word for part in parts for word in part], np.repeat(phrase_of, [len(part) for part in parts])


def caption_targets(
    caption: str, sentences: Sequence[PhrasedCaption], rows: int, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Make the attention targets of a caption from the photograph's sentences.

    Args:
        caption: of a data set.
        sentences: the photograph's captions with their phrases.
        rows: of the attention grid.
        columns: of the attention grid.

    Returns:
        Index of each word's phrase (words,), -1 for a word without boxes, for the words of `vocabulary.split_words`;
        and the share of each cell that a phrase's boxes cover, float32 (phrases, rows * columns). Every phrase has a
        word. None where no sentence matches the caption.
    """
    said = split_words(caption)
    letters = "".join(said)
    written = [(sentence, *phrase_of_words(sentence)) for sentence in sentences]
    # Nearly always one has the same letters; comparing all would take ten times as long.
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
    # A word belongs to the phrase of most of its letters.
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
    """The attention targets of a caption.

    Attributes:
        phrase_of_word: index of each word's phrase (words,), or -1 for a word without boxes.
        coverages: share of each cell that the boxes of a phrase cover, float32 (phrases, rows, columns).
    """

    phrase_of_word: NDArray[np.int64]
    coverages: NDArray[np.float32]

    def mirrored(self) -> "CaptionTargets":
        """The targets in the mirrored photograph."""
        return CaptionTargets(self.phrase_of_word, self.coverages[:, :, ::-1])

    def cropped(self, crop: Crop) -> "CaptionTargets":
        """The targets in a crop of the photograph; words whose boxes lie outside of it have none."""
        coverages = crop_coverage(self.coverages, crop)
        gone = np.append(coverages.sum((1, 2)) <= 0, False)  # the last for words without boxes, whose index is -1
        return CaptionTargets(np.where(gone[self.phrase_of_word], -1, self.phrase_of_word), coverages)


TargetsReader = Callable[[Record], list[CaptionTargets | None]]


def targets_reader(folder: str | Path, rows: int, columns: int) -> TargetsReader:
    """Make a reader of the targets of a photograph's captions, None for a caption without a matching sentence.

    A photograph whose phrases are missing or cannot be read is logged and has no targets. Of those whose phrases are
    missing the first few are: a whole data set may lack them.

    Args:
        folder: as in `datasets.phrases.phrase_reader`.
        rows: of the attention grid.
        columns: of the attention grid.

    Raises:
        DatasetError: the folder holds no phrases.
    """
    phrases_of = phrase_reader(folder)
    missing: list[Path] = []

    def targets(record: Record) -> list[CaptionTargets | None]:
        try:
            phrased = phrases_of(record)
        except DatasetError as error:
            if isinstance(error, PhrasesMissing):
                missing.append(record.image)
            if len(missing) <= _NAMED or not isinstance(error, PhrasesMissing):
                log.warning("no boxes for %s: %s", record.image, error)
            elif len(missing) == _NAMED + 1:
                log.warning("nor for others, which are not named")
            return []
        found = (caption_targets(caption, phrased, rows, columns) for caption in record.captions)
        return [
            None if target is None else CaptionTargets(target[0], target[1].reshape(-1, rows, columns))
            for target in found
        ]

    return targets
