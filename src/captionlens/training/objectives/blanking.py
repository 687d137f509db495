"""The wish that a word is less likely where what it names is blanked out; see `datasets.blanked_phrases`."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from captionlens.datasets.blanked_phrases import HIDDEN, SEEN
from captionlens.network import Teacher


def blanking_loss(log_probs: Tensor, whole: Tensor, wanted: Tensor) -> Tensor:
    """How little words tell whether what they name can be seen.

    Of a hidden word, the loss is that of a logistic regression that tells by the difference of its log-odds which of
    two photographs is the whole one, the mean over hidden words weighted by their probability there: those count that
    captions are made of. It raises a word with the whole photograph as much as it lowers it without: if it were only
    lowered, it would become unlikely with both. Of a word that is seen, it is what its probability lacks to that with
    the whole photograph, the mean over seen words.

    Args:
        log_probs: of N words, with something blanked out, in nats (N,).
        whole: the same with the whole photograph (N,).
        wanted: HIDDEN, SEEN or 0 (N,).
    """
    hidden, seen = wanted == HIDDEN, wanted == SEEN
    weights = whole.detach().exp() * hidden
    unsure = softplus(_log_odds(log_probs) - _log_odds(whole))
    told = (weights * unsure).sum() / weights.sum().clamp(min=1e-6)
    lacking = (whole.detach().exp() - log_probs.exp()).clamp(min=0)
    return told + (lacking * seen).sum() / seen.sum().clamp(min=1)


def _log_odds(log_probs: Tensor) -> Tensor:
    # No more than 1 - 1e-6, so that they stay finite.
    return log_probs - torch.log1p(-log_probs.exp().clamp(max=1 - 1e-6))


def word_log_probs(teacher: Teacher) -> Tensor:
    """Of the N words of a batch, in nats (N,)."""
    return teacher.logits.float().log_softmax(-1).gather(1, teacher.targets[:, None]).squeeze(1)
