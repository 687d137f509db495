"""REINFORCE: the gradient of hard attention, which draws the places it looks at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from captionlens.network import Teacher
from captionlens.training.batch import Batch


@dataclass(frozen=True, slots=True)
class Reinforce:
    """A term whose gradient is that of the expected cross-entropy with respect to where attention looks.

    "Show, Attend and Tell" (Xu et al., ICML 2015), equation (12); see `reinforce_loss`. The paper's entropy of the
    attention is `attention_entropy.AttentionEntropy` with the weight - lambda_e.

    Wants nothing in a batch but its captions; and a network with hard attention.

    Attributes:
        weight: the paper's lambda_r.
    """

    weight: float

    def loss(self, teacher: Teacher, batch: Batch, log_probs: Tensor, baseline: Tensor) -> Tensor:
        """The term.

        Args:
            teacher: of the batch.
            batch: for its shares.
            log_probs: of the N words, in nats (N,).
            baseline: the log-probability that each word of the vocabulary is expected to have (V,).
        """
        return batch.word_share * (self.weight * reinforce_loss(teacher, log_probs, baseline[teacher.targets]))


def reinforce_loss(teacher: Teacher, log_probs: Tensor, baseline: Tensor | float) -> Tensor:
    """The mean over words of (baseline - reward) log alpha of the place that was drawn: its value means nothing, its
    gradient is that of the expected mean of `-log_probs`, estimated from one draw.

    "Show, Attend and Tell", equation (12), after Williams, "Simple Statistical Gradient-following Algorithms for
    Connectionist Reinforcement Learning", 1992. Words that saw the expected place have no part. The reward of a place
    is the log-probability of its word and of all that follow in the caption; what came before does not depend on it,
    and would only make the estimate less certain.

    Args:
        teacher: with `words` and `chosen`.
        log_probs: of the N words, in nats (N,).
        baseline: what the log-probability of a word, or of each word (N,), is expected to be. It may depend on the
            word: that does not depend on the place that was drawn.
    """
    words, chosen = teacher.words, teacher.chosen
    if chosen is None:
        raise ValueError("teacher forcing drew no places")
    rewards = words.padded((log_probs.detach() - baseline)[:, None])  # (T, P, C, 1)
    rewards = rewards.flip(0).cumsum(0).flip(0).flatten()[words.flat]  # (N,)
    alpha = teacher.attention.gather(1, chosen.clamp(min=0)[:, None]).squeeze(1)  # (N,)
    return -(rewards * alpha.clamp(min=1e-30).log())[chosen >= 0].sum() / len(chosen)


def update_baseline(baseline: Tensor, targets: Tensor, log_probs: Tensor) -> None:
    """Move the baseline a tenth of the way towards each word's log-probability, as one after the other.

    A moving average, as in "Show, Attend and Tell", section 4.1, but of each word of the vocabulary: most of what
    makes a caption likelier than another are its words, "a" or "saxophone", and not where was looked for them.

    Args:
        baseline: (V,), changed.
        targets: words (N,).
        log_probs: theirs, in nats (N,).
    """
    counts = torch.bincount(targets, minlength=len(baseline))  # (V,)
    means = torch.zeros_like(baseline).index_add_(0, targets, log_probs.detach()) / counts.clamp(min=1)
    baseline.lerp_(means, 1 - 0.9**counts)
