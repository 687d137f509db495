"""Doubly stochastic attention: over a caption, every place is looked at."""

from dataclasses import dataclass

from torch import Tensor

from captionlens.network import Teacher
from captionlens.training.batch import Batch


@dataclass(frozen=True, slots=True)
class DoublyStochastic:
    """The mean over captions of sum_i (1 - sum_t alpha_ti)^2 / L: every place gets one word's worth of attention.

    "Show, Attend and Tell" (Xu et al., ICML 2015), equation (14), but for the division by the L places.

    Wants nothing in a batch but its captions.

    Attributes:
        weight: the paper's lambda.
    """

    weight: float

    def loss(self, teacher: Teacher, batch: Batch) -> Tensor:
        """The term."""
        unevenness = (1 - teacher.attention_sums).square().mean(-1)  # (P, C)
        return batch.caption_share * self.weight * unevenness[teacher.present].mean()
