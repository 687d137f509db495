"""Supervision of the attention: the words of a phrase attend to the phrase's boxes."""

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
    """The negative log attention inside the boxes of a word's phrase, - log sum_i alpha_i c_i.

    c_i is the share of place i that the boxes cover. The sum over the words that have boxes is divided by the number of
    all words. Liu, Mao, Sha and Yuille, "Attention Correctness in Neural Image Captioning", AAAI 2017, require
    attention spread evenly over the boxes; here its distribution inside them is free.

    Requires `phrases` and `coverages` in a batch, see `phrases_and_coverages`; without them the term is 0.

    Attributes:
        weight: of the term.
    """

    weight: float

    def loss(self, teacher: Teacher, batch: Batch) -> Tensor:
        """Compute the term."""
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
    """Make `phrases` and `coverages` of a `Batch`; None and None if no caption has targets.

    Args:
        captions: of each photograph, from `<start>` to `<end>`; possibly cut.
        targets: of the captions of each photograph; empty for a photograph without boxes.
        shape: (P, C, T) of the batch's captions.
    """
    phrases = np.full(shape, -1, np.int64)
    coverages: list[NDArray[np.float32]] = []
    known = 0
    for row, of_photograph in enumerate(targets):
        for slot, target in enumerate(of_photograph):
            if target is None:
                continue
            words = len(captions[row][slot]) - 2  # without those cut off; the token of word i is at i + 1
            numbers = target.phrase_of_word[:words]
            phrases[row, slot, 1 : words + 1] = np.where(numbers >= 0, numbers + known, -1)
            count, rows, columns = target.coverages.shape
            coverages.append(target.coverages.reshape(count, rows * columns))
            known += count
    if not coverages:
        return None, None
    return torch.from_numpy(phrases), torch.from_numpy(np.concatenate(coverages))
