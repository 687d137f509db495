"""Grounding of attention in annotated boxes: attention correctness and the pointing game.

Attention correctness: Liu, Mao, Sha and Yuille, "Attention Correctness in Neural Image Captioning", AAAI 2017: the
share of a phrase's attention that lies inside its boxes. Pointing game: Zhang, Lin, Brandt, Shen and Sclaroff,
"Top-down Neural Attention by Excitation Backprop", ECCV 2016: a hit if the strongest cell lies in a box.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.datasets.phrase_targets import phrase_of_words
from captionlens.datasets.phrases import PhrasedCaption
from captionlens.geometry.boxes import coverage, in_a_box
from captionlens.runtime.vocabulary import split_words
from captionlens.scoring.bootstrap import percentile_interval, resampled_totals


@dataclass(frozen=True, slots=True)
class PhraseScore:
    """Scores of one phrase's attention, and of two baselines that ignore the photograph."""

    correctness: float
    pointing: bool
    uniform: float  # correctness of uniform attention: the share of the photograph in the boxes
    centre: bool  # whether the centre of the photograph lies in a box


def score_phrase(attention: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]]) -> PhraseScore:
    """Score an attention map (rows, columns) against the boxes (n, 4) of its phrase.

    Correctness is the share of the attention inside the union of the boxes, with each cell weighted by its coverage.
    Pointing is a hit if the centre of the strongest cell lies in one of the boxes.
    """
    rows, columns = attention.shape
    covered = coverage(boxes, rows, columns)
    row, column = divmod(int(attention.argmax()), columns)
    return PhraseScore(
        correctness=float((attention * covered).sum() / attention.sum()),
        pointing=in_a_box((column + 0.5) / columns, (row + 0.5) / rows, boxes),
        uniform=float(covered.mean()),
        centre=in_a_box(0.5, 0.5, boxes),
    )


def score_reference(caption: PhrasedCaption, attention: NDArray[np.floating[Any]]) -> list[PhraseScore]:
    """Score the phrases of a reference caption; a phrase's map is the mean of its words' maps.

    Args:
        caption: with its phrases; those without a word after tokenisation are left out.
        attention: (words, rows, columns), of the words of `phrase_of_words`.
    """
    _, phrase_of = phrase_of_words(caption)
    return [
        score_phrase(attention[phrase_of == number].mean(0), phrase.boxes)
        for number, phrase in enumerate(caption.phrases)
        if (phrase_of == number).any()
    ]


def score_own(
    words: Sequence[str], attention: NDArray[np.floating[Any]], references: Iterable[PhrasedCaption]
) -> list[PhraseScore]:
    """Score the words of a generated caption that occur as a phrase's head noun, each against all boxes of that noun.

    The last word of a phrase is taken for its head noun. Singular and plural are not distinguished.

    Args:
        words: of the caption.
        attention: (words, rows, columns).
        references: the photograph's captions with their phrases.
    """
    boxes = boxes_by_name(references)
    return [
        score_phrase(map_, np.concatenate(boxes[singular(word)]))
        for word, map_ in zip(words, attention, strict=True)
        if singular(word) in boxes
    ]


def boxes_by_name(references: Iterable[PhrasedCaption]) -> dict[str, list[NDArray[np.float32]]]:
    """Collect the boxes (n, 4) of all phrases, by the singular of the phrase's last word."""
    boxes: dict[str, list[NDArray[np.float32]]] = {}
    for caption in references:
        for phrase in caption.phrases:
            name = split_words(" ".join(caption.words[phrase.start : phrase.end]))
            if name:
                boxes.setdefault(singular(name[-1]), []).append(phrase.boxes)
    return boxes


_IRREGULAR = {
    "people": "person",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "leaves": "leaf",
    "buses": "bus",
}


def singular(word: str) -> str:
    """Singular of an English noun, accurate enough to compare nouns."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("men"):  # women, policemen
        return word[:-2] + "an"
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def summarise(photographs: Sequence[Sequence[PhraseScore]], *, intervals: bool = True) -> dict[str, Any]:
    """Means over all phrases, with 95 % bootstrap intervals over photographs, and the baselines of these phrases.

    Args:
        photographs: the scores of each photograph's phrases.
        intervals: whether to add intervals.

    Returns:
        `phrases`, their number. If there are any, also `attention_correctness`, `pointing_game`, `uniform`, the
        correctness of uniform attention, `centre`, the pointing game of the photograph's centre, and `intervals`.
    """
    statistics = np.array(
        [
            np.sum([(phrase.correctness, phrase.pointing, phrase.uniform, phrase.centre, 1) for phrase in phrases], 0)
            for phrases in photographs
            if phrases
        ]
    ).reshape(-1, 5)
    total = statistics.sum(0)
    summary: dict[str, Any] = {"phrases": int(total[4])}
    if not len(statistics):
        return summary
    names = ("attention_correctness", "pointing_game", "uniform", "centre")
    summary |= {name: float(value / total[4]) for name, value in zip(names, total, strict=False)}
    if intervals:
        totals = resampled_totals(statistics)
        summary["intervals"] = {
            name: list(percentile_interval(totals[:, column] / totals[:, 4])) for column, name in enumerate(names[:2])
        }
    return summary
