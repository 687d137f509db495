"""REINFORCE: the gradient estimate of hard attention, which samples the places it attends to."""

from dataclasses import dataclass

import torch
from torch import Tensor

from captionlens.network import Teacher
from captionlens.training.batch import Batch


@dataclass(frozen=True, slots=True)
class Reinforce:
    """A term whose gradient estimates that of the expected cross-entropy with respect to the attention.

    "Show, Attend and Tell" (Xu et al., ICML 2015), equation (12); see `reinforce_loss`. The paper's entropy of the
    attention is `attention_entropy.AttentionEntropy` with the weight - lambda_e.

    Requires nothing of a batch but its captions, and a network with hard attention.

    Attributes:
        weight: the paper's lambda_r.
    """

    weight: float

    def loss(self, teacher: Teacher, batch: Batch, log_probs: Tensor, baseline: Tensor) -> Tensor:
        """Compute the term.

        Args:
            teacher: of the batch.
            batch: for its shares.
            log_probs: of the N words, in nats (N,).
            baseline: expected log-probability of each word of the vocabulary (V,).
        """
        return batch.word_share * (self.weight * reinforce_loss(teacher, log_probs, baseline[teacher.targets]))


def reinforce_loss(teacher: Teacher, log_probs: Tensor, baseline: Tensor | float) -> Tensor:
    """The mean over words of (baseline - reward) log alpha of the sampled place.

    Its value has no meaning; its gradient estimates, from one sample, that of the expected mean of `-log_probs`. "Show,
    Attend and Tell", equation (12), after Williams, "Simple Statistical Gradient-following Algorithms for Connectionist
    Reinforcement Learning", 1992. Words with the expected context are left out. The reward of a place is the
    log-probability of its word and of all later words of the caption. Earlier words do not depend on the place, and
    would only add variance.

    Args:
        teacher: with `words` and `chosen`.
        log_probs: of the N words, in nats (N,).
        baseline: expected log-probability, of any word or of each of the N (N,). It may depend on the word, which does
            not depend on the sampled place.
    """
    words, chosen = teacher.words, teacher.chosen
    if chosen is None:
        raise ValueError("teacher forcing drew no places")
    rewards = words.padded((log_probs.detach() - baseline)[:, None])  # (T, P, C, 1)
    rewards = rewards.flip(0).cumsum(0).flip(0).flatten()[words.flat]  # (N,)
    alpha = teacher.attention.gather(1, chosen.clamp(min=0)[:, None]).squeeze(1)  # (N,)
    return -(rewards * alpha.clamp(min=1e-30).log())[chosen >= 0].sum() / len(chosen)


def update_baseline(baseline: Tensor, targets: Tensor, log_probs: Tensor) -> None:
    """Move the baseline a tenth of the way towards each word's log-probability, word by word.

    A moving average, as in "Show, Attend and Tell", section 4.1, but per word of the vocabulary: the log-probability of
    a caption depends far more on its words, "a" or "saxophone", than on the places attended to.

    Args:
        baseline: (V,), changed in place.
        targets: words (N,).
        log_probs: of these words, in nats (N,).
    """
    counts = torch.bincount(targets, minlength=len(baseline))  # (V,)
    means = torch.zeros_like(baseline).index_add_(0, targets, log_probs.detach()) / counts.clamp(min=1)
    baseline.lerp_(means, 1 - 0.9**counts)
