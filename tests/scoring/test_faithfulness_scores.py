"""Faithfulness over a data set: which words count, and what their figures are."""

import numpy as np
import pytest

from captionlens.datasets.phrases import PhraseBoxes, PhrasedCaption
from captionlens.runtime.caption import Word
from captionlens.runtime.faithfulness import Faithfulness
from captionlens.scoring.faithfulness_scores import content_words, function_words, named_nouns, summarise

DOG, RUNS, A = Faithfulness(0.8, 0.2, 0.7), Faithfulness(0.5, 0.5, 0.4), Faithfulness(0.9, 0.88, 0.89)
WORDS = (
    Word("a", 0.9, faithfulness=A),
    Word("dog", 0.8, faithfulness=DOG),
    Word("runs", 0.5, faithfulness=RUNS),
    Word("grass", 0.5),
)


def test_which_words_count() -> None:
    boxes = np.array([[0, 0, 1, 1]], np.float32)
    people = PhrasedCaption(("Two", "Dogs", "run"), (PhraseBoxes(0, 2, "animals", boxes),))
    grass = PhrasedCaption(("grass",), (PhraseBoxes(0, 1, "scene", boxes),))
    assert named_nouns(WORDS, [people, grass]) == [DOG]  # grass was not examined
    assert named_nouns(WORDS, [grass]) == []
    assert function_words(WORDS) == [A]
    assert content_words(WORDS) == [DOG, RUNS]


def test_the_figures() -> None:
    summary = summarise([[DOG, RUNS], [], [A]])
    assert summary["words"] == 3
    assert summary["falls_more"] == pytest.approx(2 / 3)
    assert summary["fall"] == pytest.approx((0.6 + 0 + 0.02) / 3)
    assert summary["control_fall"] == pytest.approx((0.1 + 0.1 + 0.01) / 3)
    assert summary["depends_on_picture"] == pytest.approx(1 / 3)
    # Two photographs have words: drawn are twice the first, twice the second, or both.
    assert summary["intervals"]["falls_more"] == [0.5, 1.0]
    assert summary["intervals"]["fall"] == pytest.approx([0.02, 0.3])
    assert summary["intervals"]["control_fall"] == pytest.approx([0.01, 0.1])
    assert summary["intervals"]["depends_on_picture"] == [0.0, 0.5]


def test_without_intervals_and_without_words() -> None:
    assert set(summarise([[DOG]], intervals=False)) == {
        "words", "falls_more", "fall", "control_fall", "depends_on_picture"
    }  # fmt: skip
    assert summarise([[], []]) == {"words": 0}
