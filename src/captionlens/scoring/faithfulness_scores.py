"""Faithfulness of attention over a data set: mean falls of word probabilities, see `runtime.faithfulness`."""

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np

from captionlens.datasets.phrases import PhrasedCaption
from captionlens.runtime.caption import Word
from captionlens.runtime.faithfulness import Faithfulness
from captionlens.runtime.vocabulary import split_words
from captionlens.scoring.bootstrap import percentile_interval, resampled_totals
from captionlens.scoring.grounding import boxes_by_name, singular

# Words required by grammar rather than by the picture: articles, pronouns, conjunctions, auxiliaries, and the
# prepositions that say least about positions.
FUNCTION_WORDS = frozenset({
    "a", "an", "the", "this", "that", "these", "those", "his", "her", "hers", "its", "their", "he", "she", "it", "they",
    "him", "them", "who", "which", "there", "and", "or", "but", "while", "as", "is", "are", "was", "were", "be", "been",
    "being", "am", "has", "have", "had", "do", "does", "to", "of", "in", "on", "at", "with", "by", "for", "from",
})  # fmt: skip


def function_words(words: Sequence[Word]) -> list[Faithfulness]:
    """Faithfulness of the examined function words."""
    return [word.faithfulness for word in words if word.faithfulness and word.text in FUNCTION_WORDS]


def content_words(words: Sequence[Word]) -> list[Faithfulness]:
    """Faithfulness of the examined words that are not function words."""
    return [word.faithfulness for word in words if word.faithfulness and word.text not in FUNCTION_WORDS]


def named_nouns(words: Sequence[Word], references: Iterable[PhrasedCaption]) -> list[Faithfulness]:
    """Faithfulness of the examined words that name a box of the photograph, matched as in `grounding.score_own`."""
    named = boxes_by_name(references)
    return [word.faithfulness for word in words if word.faithfulness and singular(word.text) in named]


def known_nouns(words: Sequence[Word], nouns: Set[str], references: Iterable[str]) -> list[Faithfulness]:
    """Faithfulness of the examined words that are nouns, and right: a reference caption has them, too.

    Args:
        words: of a caption.
        nouns: singulars, see `nouns_of`.
        references: captions of the same photograph.
    """
    said = {singular(word) for reference in references for word in split_words(reference)} & nouns
    return [word.faithfulness for word in words if word.faithfulness and singular(word.text) in said]


def nouns_of(photographs: Iterable[Iterable[PhrasedCaption]]) -> frozenset[str]:
    """Singulars of the nouns of phrases with boxes: words that are mostly the last of such a phrase.

    "Front" is not among them, since "in front of" is no phrase, and "top" is said of clothes as well as "on top of".
    """
    said, named = Counter[str](), Counter[str]()
    for references in photographs:
        for caption in references:
            said.update(map(singular, split_words(" ".join(caption.words))))
            named.update(name for name, boxes in boxes_by_name([caption]).items() for _ in boxes)
    return frozenset(name for name, count in named.items() if name.isalpha() and 2 * count > said[name])


def summarise(photographs: Sequence[Sequence[Faithfulness]], *, intervals: bool = True) -> dict[str, Any]:
    """Means over all words, with 95 % bootstrap intervals over photographs.

    Args:
        photographs: the faithfulness of each photograph's words.
        intervals: whether to add intervals.

    Returns:
        `words`, their number. If there are any, also `falls_more`, the share of words whose probability falls more
        without the attended cells than without the control; `fall` and `control_fall`, the mean falls of the
        probability; `depends_on_picture`, the share of words that depend on it; and `intervals`.
    """
    statistics = np.array(
        [
            [
                sum(word.falls_more for word in words),
                sum(word.fall for word in words),
                sum(word.control_fall for word in words),
                sum(word.depends_on_picture for word in words),
                len(words),
            ]
            for words in photographs
            if words
        ],
        np.float64,
    ).reshape(-1, 5)
    total = statistics.sum(0)
    summary: dict[str, Any] = {"words": int(total[4])}
    if not len(statistics):
        return summary
    names = ("falls_more", "fall", "control_fall", "depends_on_picture")
    summary |= {name: float(value / total[4]) for name, value in zip(names, total[:4], strict=True)}
    if intervals:
        totals = resampled_totals(statistics)
        summary["intervals"] = {
            name: list(percentile_interval(totals[:, column] / totals[:, 4])) for column, name in enumerate(names)
        }
    return summary
