"""Supervision of the attention: a word looks into the boxes of its phrase."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.datasets.phrase_targets import CaptionTargets
from captionlens.network import Teacher
from captionlens.training.batch import Batch


@dataclass(frozen=True, slots=True)
class AttentionSupervision:
    """- log of the attention inside the boxes of a word's phrase, - log sum_i alpha_i c_i, where c_i is how much of
    place i the boxes cover: summed over the words that have boxes, divided by all words.

    Liu, Mao, Sha and Yuille, "Attention Correctness in Neural Image Captioning", AAAI 2017, ask for attention spread
    evenly over the boxes; this leaves it where in them.

    Wants `phrases` and `coverages` in a batch, see `phrases_and_coverages`; without them it adds nothing.

    Attributes:
        weight: of the term.
    """

    weight: float

    def loss(self, teacher: Teacher, batch: Batch) -> Tensor:
        """The term."""
        if batch.phrases is None or batch.coverages is None:
            return teacher.attention.new_zeros(())
        of_word = teacher.words.of_tokens(batch.phrases)  # (N,)
        boxed = of_word >= 0
        inside = (teacher.attention[boxed] * batch.coverages[of_word[boxed]]).sum(-1)
        strayed = -inside.clamp(min=1e-6).log()
        return batch.word_share * self.weight * strayed.sum() / len(teacher.targets)


def phrases_and_coverages(
    captions: Sequence[Sequence[Sequence[int]]],
    targets: Sequence[Sequence[CaptionTargets | None]],
    shape: tuple[int, ...],
) -> tuple[Tensor | None, Tensor | None]:
    """`phrases` and `coverages` of a `Batch`; None and None where no caption has targets.

    Args:
        captions: of each photograph, from `<start>` to `<end>`. They may have been cut.
        targets: of each photograph, of its captions; empty where nothing is known of it.
        shape: (P, C, T) of the batch's captions.
    """
    phrases = np.full(shape, -1, np.int64)
    coverages: list[NDArray[np.float32]] = []
    known = 0
    for row, of_photograph in enumerate(targets):
        for slot, target in enumerate(of_photograph):
            if target is None:
                continue
            words = len(captions[row][slot]) - 2  # those that were not cut; a word's place is one after its number
            numbers = target.phrase_of_word[:words]
            phrases[row, slot, 1 : words + 1] = np.where(numbers >= 0, numbers + known, -1)
            count, rows, columns = target.coverages.shape
            coverages.append(target.coverages.reshape(count, rows * columns))
            known += count
    if not coverages:
        return None, None
    return torch.from_numpy(phrases), torch.from_numpy(np.concatenate(coverages))
