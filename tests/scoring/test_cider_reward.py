"""The reward of self-critical training against CIDEr-D caption by caption."""

from pathlib import Path

import numpy as np
import pytest

from captionlens.datasets import read_dataset
from captionlens.errors import OptionError
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.scoring.cider import CiderD
from captionlens.scoring.cider_reward import CiderReward


def assert_same(references: list[list[list[int]]], photographs: list[int], captions: list[list[int]]) -> None:
    plain = CiderD(dict(enumerate(references)))
    rewards = CiderReward(references).score_many(np.array(photographs, np.int64), captions)
    np.testing.assert_allclose(rewards, plain.score_many(photographs, captions), rtol=0, atol=1e-9)


@pytest.mark.parametrize("words", [2, 7, 3000, 2**40])
@pytest.mark.parametrize("seed", range(3))
def test_random_captions_score_as_one_by_one(words: int, seed: int) -> None:
    random = np.random.default_rng([seed, words])

    def some(longest: int, most: int) -> list[int]:
        return [int(word) for word in random.integers(0, most, random.integers(0, longest + 1))]

    references = [[some(12, words) for _ in range(random.integers(1, 7))] for _ in range(20)]
    photographs = random.integers(0, 20, 300).tolist()
    # Words of no reference, references themselves, and repetitions.
    captions = [some(20, words + 3) for _ in range(100)]
    captions += [references[photograph][0] for photograph in photographs[100:200]]
    captions += [2 * references[photograph][-1][:5] for photograph in photographs[200:]]
    assert_same(references, photographs, captions)


@pytest.mark.parametrize(
    "references",
    [[[[1, 2, 3]]], [[[], [1]], [[2]]], [[[]], [[]]], [[[5, 5, 5, 5, 5]], [[5]]]],
    ids=["one photograph", "nothing said", "nothing at all", "one word"],
)
def test_odd_references(references: list[list[list[int]]]) -> None:
    captions: list[list[int]] = [[], [1], [1, 2, 3], [5, 5, 5, 5, 5, 5], [9, 9, 9]]
    for photograph in range(len(references)):
        assert_same(references, [photograph] * len(captions), captions)
    assert not len(CiderReward(references).score_many(np.zeros(0, np.int64), []))


def test_photographs_without_captions_are_refused() -> None:
    with pytest.raises(OptionError, match="at least one photograph"):
        CiderReward([])
    with pytest.raises(OptionError, match="photograph 1 has no reference captions"):
        CiderReward([[[1]], []])


def test_real_captions_score_as_one_by_one(shared_data: Path) -> None:
    records = read_dataset(shared_data / "flickr8k").split("train")[:500]
    vocabulary = Vocabulary.build((caption for record in records for caption in record.captions), min_count=3)
    references = [[vocabulary.encode(caption)[1:] for caption in record.captions] for record in records]
    random = np.random.default_rng(0)
    photographs = [*range(500), *range(500)]
    captions = [references[number][4] for number in random.integers(0, 500, 500)]
    captions += [own[0][:6] + own[1][6:] for own in references]
    assert_same(references, photographs, captions)
