"""Attention measured against boxes that people drew: attention correctness and the pointing game.

Attention correctness: Liu, Mao, Sha and Yuille, "Attention Correctness in Neural Image Captioning", AAAI 2017: the
share of a phrase's attention that lies inside the boxes of what it names. Pointing game: Zhang, Lin, Brandt, Shen and
Sclaroff, "Top-down Neural Attention by Excitation Backprop", ECCV 2016: whether its strongest place lies in a box.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.datasets.phrases import PhrasedCaption, read_flickr30k_entities, read_scene_phrases
from captionlens.datasets.records import Record
from captionlens.errors import DatasetError
from captionlens.runtime.vocabulary import words as split_words
from captionlens.scoring.bootstrap import percentile_interval, resampled_totals

PhraseReader = Callable[[Record], tuple[PhrasedCaption, ...]]


def phrase_reader(folder: str | Path) -> PhraseReader:
    """What reads the phrases of a photograph: from Flickr30k Entities, or from drawn scenes.

    Args:
        folder: with `Annotations/` and `Sentences/`, or with `phrases.jsonl`.

    Raises:
        DatasetError: the folder has neither.
    """
    folder = Path(folder)
    if (folder / "phrases.jsonl").exists():
        scenes = read_scene_phrases(folder)

        def of_scene(record: Record) -> tuple[PhrasedCaption, ...]:
            if record.source_id not in scenes:
                raise DatasetError(folder / "phrases.jsonl", f"has no phrases of {record.source_id}")
            return scenes[record.source_id]

        return of_scene
    if not ((folder / "Annotations").is_dir() and (folder / "Sentences").is_dir()):
        raise DatasetError(folder, "has neither Annotations/ and Sentences/ (Flickr30k Entities) nor phrases.jsonl")
    # Flickr8k's files are named NUMBER_HASH.jpg, Flickr30k's NUMBER.jpg.
    return lambda record: read_flickr30k_entities(folder, record.image.stem.partition("_")[0])


def coverage(boxes: NDArray[np.floating[Any]], rows: int, columns: int) -> NDArray[np.float64]:
    """How much of each cell of a grid the union of boxes covers, exactly, from 0 to 1.

    Args:
        boxes: (n, 4) left, top, right, bottom as fractions of width and height.
        rows: of the grid.
        columns: of the grid.

    Returns:
        float64 (rows, columns).
    """
    # The edges of all boxes and cells cut the photograph into rectangles that are inside or outside as a whole.
    left, top, right, bottom = np.asarray(boxes, np.float64).T
    across = np.unique(np.concatenate([np.linspace(0, 1, columns + 1), np.clip([*left, *right], 0, 1)]))
    down = np.unique(np.concatenate([np.linspace(0, 1, rows + 1), np.clip([*top, *bottom], 0, 1)]))
    x, y = (across[1:] + across[:-1]) / 2, (down[1:] + down[:-1]) / 2
    in_columns = (left[:, None] < x) & (x < right[:, None])  # (n, X)
    in_rows = (top[:, None] < y) & (y < bottom[:, None])  # (n, Y)
    inside = (in_rows[:, :, None] & in_columns[:, None, :]).any(0)  # (Y, X)
    areas = inside * np.diff(down)[:, None] * np.diff(across)
    column, row = (x * columns).astype(int), (y * rows).astype(int)
    covered = np.zeros((rows, columns))
    np.add.at(covered, (row[:, None], column[None, :]), areas)
    # Rounding of the edges may make it a hair more than a cell.
    return np.minimum(covered * (rows * columns), 1.0)


def attention_correctness(attention: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]]) -> float:
    """The share of a map (rows, columns) that lies inside the union of boxes (n, 4); cells weigh by their overlap."""
    rows, columns = attention.shape
    return float((attention * coverage(boxes, rows, columns)).sum() / attention.sum())


def points_into(attention: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]]) -> bool:
    """Whether the centre of the strongest cell of a map (rows, columns) lies in one of the boxes (n, 4)."""
    row, column = np.unravel_index(int(attention.argmax()), attention.shape)
    return _in_a_box((column + 0.5) / attention.shape[1], (row + 0.5) / attention.shape[0], boxes)


def _in_a_box(x: float, y: float, boxes: NDArray[np.floating[Any]]) -> bool:
    left, top, right, bottom = boxes.T
    return bool(((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).any())


@dataclass(frozen=True, slots=True)
class PhraseScore:
    """One phrase: what its attention scores, and what looking without eyes would."""

    correctness: float
    pointing: bool
    uniform: float  # correctness of attention that is the same everywhere: the share of the photograph in the boxes
    centre: bool  # whether the middle of the photograph lies in a box


def score_phrase(attention: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]]) -> PhraseScore:
    """All there is to say of a map (rows, columns) and the boxes (n, 4) of what its phrase names."""
    covered = coverage(boxes, *attention.shape)
    return PhraseScore(
        correctness=float((attention * covered).sum() / attention.sum()),
        pointing=points_into(attention, boxes),
        uniform=float(covered.mean()),
        centre=_in_a_box(0.5, 0.5, boxes),
    )


def score_reference(caption: PhrasedCaption, attention: NDArray[np.floating[Any]]) -> list[PhraseScore]:
    """The phrases of a reference caption.

    Args:
        caption: with its phrases.
        attention: (words, rows, columns), of the words as `vocabulary_words` gives them.
    """
    ends = np.cumsum([0, *(len(split_words(word)) for word in caption.words)])  # an Entities word is 0, 1 or more words
    scores = []
    for phrase in caption.phrases:
        maps = attention[ends[phrase.start] : ends[phrase.end]]
        if len(maps):
            scores.append(score_phrase(maps.mean(0), phrase.boxes))
    return scores


def vocabulary_words(caption: PhrasedCaption) -> list[str]:
    """A caption's words as a vocabulary counts them."""
    return [part for word in caption.words for part in split_words(word)]


def score_own(
    words: Sequence[str], attention: NDArray[np.floating[Any]], references: Iterable[PhrasedCaption]
) -> list[PhraseScore]:
    """The words of a captioner's own caption that people named too, each with all boxes of that name.

    A word is matched with the last word of a phrase, the noun in English, singular or plural alike.

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
    """The boxes (n, 4) of all phrases, by the singular of the phrase's last word."""
    boxes: dict[str, list[NDArray[np.float32]]] = {}
    for caption in references:
        for phrase in caption.phrases:
            name = split_words(" ".join(caption.words[phrase.start : phrase.end]))
            if name:
                boxes.setdefault(singular(name[-1]), []).append(phrase.boxes)
    return boxes


_IRREGULAR = {"men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot"}


def singular(word: str) -> str:
    """An English noun's singular, near enough to tell whether two nouns are the same."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
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
        photographs: of each, its phrases' scores.
        intervals: add them.

    Returns:
        `phrases`, and unless there are none: `attention_correctness`, `pointing_game`, `uniform`, the correctness of
        attention that is the same everywhere, `centre`, the pointing game of the photograph's middle, and `intervals`.
    """
    statistics = np.array(
        [
            [sum(values) for values in zip(*((p.correctness, p.pointing, p.uniform, p.centre, 1) for p in phrases))]
            for phrases in photographs
            if phrases
        ],
        np.float64,
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
