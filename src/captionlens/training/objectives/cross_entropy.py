"""Cross-entropy of the reference captions, for training by maximum likelihood."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from captionlens.network import Teacher
from captionlens.network.smoothed_cross_entropy import SoftTargets, smoothed_cross_entropy
from captionlens.training.batch import Batch


class CrossEntropyLoss(NamedTuple):
    """The loss to minimise, `total`; to log, the `mean` cross-entropy per word without smoothing; and that of each
    word, `of_words` (N,). All in nats, the last two without gradient."""

    total: Tensor
    mean: Tensor
    of_words: Tensor


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """The mean over words of - log p(word), with label smoothing.

    With a smoothing of s, a word's term is (1 - s) (- log p(word)) + s mean_v (- log p(v)), with v over the vocabulary:
    Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    With `soft` targets in the batch, these take their masses of each word's target, and the true word keeps the rest:
    distillation, Hinton, Vinyals and Dean, 2015. With the `weights` of a batch's captions, a word's term is multiplied
    by that of its caption. Requires nothing of a batch but its captions.

    Attributes:
        label_smoothing: s, from 0 to 1.
    """

    label_smoothing: float = 0.0

    def loss(self, teacher: Teacher, batch: Batch) -> CrossEntropyLoss:
        """Compute the term, and the values to log."""
        layer = teacher.output_words
        soft = None if batch.soft is None else SoftTargets(*(teacher.words.of_tokens(part) for part in batch.soft))
        weights = None if batch.weights is None else teacher.words.of_captions(batch.weights)
        smoothed, plain, of_words = smoothed_cross_entropy(
            teacher.hidden, layer.weight, layer.bias, teacher.targets, self.label_smoothing, weights, soft
        )
        return CrossEntropyLoss(batch.word_share * smoothed, batch.word_share * plain, of_words)
