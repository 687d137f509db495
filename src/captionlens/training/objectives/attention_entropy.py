"""Entropy of the attention: whether a word looks at few places or at many."""

from dataclasses import dataclass

from torch import Tensor

from captionlens.network import Teacher
from captionlens.training.batch import Batch


@dataclass(frozen=True, slots=True)
class AttentionEntropy:
    """The mean over words of - sum_i alpha_i log alpha_i, in nats: the smaller, the fewer places a word looks at.

    With a negative weight, the wish to look at many places that keeps hard attention exploring: lambda_e H of "Show,
    Attend and Tell" (Xu et al., ICML 2015), section 4.1.

    Wants nothing in a batch but its captions.

    Attributes:
        weight: of either sign.
    """

    weight: float

    def loss(self, teacher: Teacher, batch: Batch) -> Tensor:
        """The term."""
        # The entropy's slope at 0 is infinite, and infinity times the softmax's 0 would be no number.
        alpha = teacher.attention.clamp(min=1e-30)  # (N, L)
        entropies = -(alpha * alpha.log()).sum(-1)  # (N,)
        return batch.word_share * self.weight * entropies.mean()
