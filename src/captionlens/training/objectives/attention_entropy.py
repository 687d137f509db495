"""Entropy of the attention, a regulariser for or against focus on few places."""

from dataclasses import dataclass

from torch import Tensor

from captionlens.network import Teacher
from captionlens.training.batch import Batch


@dataclass(frozen=True, slots=True)
class AttentionEntropy:
    """The mean over words of - sum_i alpha_i log alpha_i, in nats: the smaller, the fewer places a word attends to.

    A negative weight rewards attention to many places, which keeps hard attention exploring: lambda_e H of "Show,
    Attend and Tell" (Xu et al., ICML 2015), section 4.1.

    Requires nothing of a batch but its captions.

    Attributes:
        weight: of either sign.
    """

    weight: float

    def loss(self, teacher: Teacher, batch: Batch) -> Tensor:
        """Compute the term."""
        # The entropy's slope at 0 is infinite, and infinity times the softmax's 0 would be NaN.
        alpha = teacher.attention.clamp(min=1e-30)  # (N, L)
        entropies = -(alpha * alpha.log()).sum(-1)  # (N,)
        return batch.word_share * self.weight * entropies.mean()
