"""Blanking: words become less probable when their object is blanked out, and the other words do not.

A captioner can predict a word from the context of an object, or from its outline. Hendricks, Burns, Saenko, Darrell and
Rohrbach, "Women also Snowboard: Overcoming Bias in Captioning Models", ECCV 2018, mask people and train words for women
and men to become equally probable. Here any phrase with boxes is masked. Its last word, the head noun in English, is
trained to become less probable, while the words of visible phrases keep their probability. `datasets.blanked_phrases`
chooses the phrase to blank out in a photograph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from captionlens.datasets.blanked_phrases import BlankedPhrase
from captionlens.datasets.phrase_targets import CaptionTargets
from captionlens.network import CaptioningNetwork, Teacher
from captionlens.training.batch import Batch, BlankedBatch, pad_captions
from captionlens.training.grids import Grids

HIDDEN, SEEN = -1, 1  # targets of a word: improbable, as probable as before; other words have 0

_STILL_SEEN = 0.2  # of a phrase's boxes: the largest blanked share with which its words are SEEN


@dataclass(frozen=True, slots=True)
class Blanking:
    """The loss of words whose object is blanked out, and of those whose object is not: see `blanking_loss`.

    Requires `blanked` in a batch, see `BlankedPhotograph`; without it the term is 0.

    Attributes:
        weight: of the term.
    """

    weight: float

    def loss(self, network: CaptioningNetwork, batch: Batch, epoch: int) -> Tensor:
        """Compute the term, in alternate epochs from one half of the captions and from the other: with half of them,
        training learns as much in the same time."""
        blanked = batch.blanked
        some = slice(epoch % 2, None, 2)
        if blanked is None or not blanked.captions[:, some].any():
            return torch.zeros((), device=batch.features.device)
        captions, wanted = blanked.captions[:, some], blanked.wanted[:, some]
        teacher, whole = (network.teach(features, captions) for features in (blanked.features, blanked.whole))
        loss = blanking_loss(word_log_probs(teacher), word_log_probs(whole), teacher.words.of_tokens(wanted))
        return self.weight * loss


def blanking_loss(log_probs: Tensor, whole: Tensor, wanted: Tensor) -> Tensor:
    """Loss of the probabilities of words with a phrase blanked out, compared with the whole photograph.

    For hidden words it is the loss of a logistic regression that tells the two photographs apart by the difference of
    the word's log-odds. Their mean is weighted by the word's probability with the whole photograph, so that the words
    captions consist of count most. The gradient raises the word with the whole photograph as much as it lowers it with
    the blanked one; if it only lowered the word, the word would become improbable with both. For seen words the loss is
    the mean fall of their probability. With q the probability of a word with the whole photograph and p that with the
    blanked one, this is

        sum_hidden q softplus(logit p - logit q) / sum_hidden q  +  mean_seen max(q - p, 0),

    where only the q inside the softplus has a gradient.

    Args:
        log_probs: of N words with the blanked photograph, in nats (N,).
        whole: of the same words with the whole photograph (N,).
        wanted: HIDDEN, SEEN or 0 (N,).
    """
    hidden, seen = wanted == HIDDEN, wanted == SEEN
    weights = whole.detach().exp() * hidden
    unsure = softplus(_log_odds(log_probs) - _log_odds(whole))
    told = (weights * unsure).sum() / weights.sum().clamp(min=1e-6)
    lacking = (whole.detach().exp() - log_probs.exp()).clamp(min=0)
    return told + (lacking * seen).sum() / seen.sum().clamp(min=1)


def _log_odds(log_probs: Tensor) -> Tensor:
    # Probabilities of at most 1 - 1e-6 keep the log-odds finite.
    return log_probs - torch.log1p(-log_probs.exp().clamp(max=1 - 1e-6))


def word_log_probs(teacher: Teacher) -> Tensor:
    """Log-probabilities of the N words of a batch, in nats (N,)."""
    return teacher.logits.float().log_softmax(-1).gather(1, teacher.targets[:, None]).squeeze(1)


def wanted_of_words(blanked: BlankedPhrase, target: CaptionTargets | None) -> NDArray[np.int64] | None:
    """Targets HIDDEN, SEEN or 0 of each word (words,) of a caption of a photograph with a phrase blanked out.

    A phrase is hidden if at least as large a share of it is blanked out as of the chosen one; its last word is HIDDEN.
    All words of a nearly complete phrase are SEEN.

    Args:
        blanked: the phrase that is blanked out.
        target: of the caption; None: the caption has no boxes, and no targets.
    """
    if target is None:
        return None
    of_word = target.phrase_of_word
    wanted = np.zeros(len(of_word), np.int64)
    for phrase, coverage in enumerate(target.coverages):
        words = np.flatnonzero(of_word == phrase)
        gone = _part(coverage, blanked.cells)
        if gone >= _part(blanked.coverage, blanked.cells):
            wanted[words[-1]] = HIDDEN
        elif gone <= _STILL_SEEN:
            wanted[words] = SEEN
    return wanted


def _part(coverage: NDArray[np.float32], cells: NDArray[np.bool_]) -> float:
    """Share of the sum of a coverage (R, C) that lies in these cells."""
    return float(coverage[cells].sum(dtype=np.float64) / coverage.sum(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class BlankedPhotograph:
    """A training photograph with a phrase blanked out.

    Attributes:
        key: of its grid.
        whole: key of the grid of the unchanged photograph.
        captions: as indices, from `<start>` to `<end>`; possibly cut.
        wanted: targets of the words of each caption, see `wanted_of_words`.
    """

    key: str
    whole: str
    captions: Sequence[Sequence[int]]
    wanted: Sequence[NDArray[np.int64] | None]


def blanked_batch(photographs: Sequence[BlankedPhotograph], grids: Grids) -> BlankedBatch | None:
    """Make `blanked` of a `Batch`; None without such photographs."""
    if not photographs:
        return None
    captions = pad_captions([photograph.captions for photograph in photographs])
    wanted = np.zeros_like(captions)
    for row, photograph in enumerate(photographs):
        for slot, of_words in enumerate(photograph.wanted):
            if of_words is not None:
                words = len(photograph.captions[slot]) - 2  # without those cut off
                wanted[row, slot, 1 : words + 1] = of_words[:words]
    return BlankedBatch(
        torch.as_tensor(grids.read(photograph.key for photograph in photographs)),
        torch.as_tensor(grids.read(photograph.whole for photograph in photographs)),
        torch.from_numpy(captions),
        torch.from_numpy(wanted),
    )
