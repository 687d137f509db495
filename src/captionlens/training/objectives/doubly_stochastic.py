"""Doubly stochastic attention: a regulariser for attention to every place over the words of a caption."""

from dataclasses import dataclass

from torch import Tensor

from captionlens.network import Teacher
from captionlens.training.batch import Batch


@dataclass(frozen=True, slots=True)
class DoublyStochastic:
    """The mean over captions of sum_i (1 - sum_t alpha_ti)^2 / L, which is 0 if the attention to each place sums to 1.

    "Show, Attend and Tell" (Xu et al., ICML 2015), equation (14), divided by the number of places L.

    Requires nothing of a batch but its captions.

    Attributes:
        weight: the paper's lambda.
    """

    weight: float

    def loss(self, teacher: Teacher, batch: Batch) -> Tensor:
        """Compute the term."""
        unevenness = (1 - teacher.attention_sums).square().mean(-1)  # (P, C)
        return batch.caption_share * self.weight * unevenness[teacher.present].mean()
