"""Blanking: a word is less likely where what it names is blanked out, and the others as likely as they were.

Trained on photographs as they are, a captioner may know a word from all that surrounds the thing, or from its outline.
Hendricks, Burns, Saenko, Darrell and Rohrbach, "Women also Snowboard: Overcoming Bias in Captioning Models", ECCV 2018,
hide people and ask that words for women and men become equally likely. Here any phrase with boxes is hidden, and its
last word, which in English names the thing, is to become less likely, while the words of phrases that are seen stay as
likely as they were. What is blanked out of a photograph is chosen by `datasets.blanked_phrases`.
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

HIDDEN, SEEN = -1, 1  # what is wanted of a word: unlikely, likely; of others nothing, 0

_STILL_SEEN = 0.2  # of a phrase's boxes: at most so much may be gone for its words to stay likely


@dataclass(frozen=True, slots=True)
class Blanking:
    """What words lose of their likelihood without what they name, and what the others keep: see `blanking_loss`.

    Wants `blanked` in a batch, see `BlankedPhotograph`; without it adds nothing.

    Attributes:
        weight: of the term.
    """

    weight: float

    def loss(self, network: CaptioningNetwork, batch: Batch, epoch: int) -> Tensor:
        """The term; by turns of the epochs that of one half of the captions and of the other: fewer learn as much in
        the same time."""
        blanked = batch.blanked
        some = slice(epoch % 2, None, 2)
        if blanked is None or not blanked.captions[:, some].any():
            return torch.zeros((), device=batch.features.device)
        captions, wanted = blanked.captions[:, some], blanked.wanted[:, some]
        teacher, whole = (network.teach(features, captions) for features in (blanked.features, blanked.whole))
        loss = blanking_loss(word_log_probs(teacher), word_log_probs(whole), teacher.words.of_tokens(wanted))
        return self.weight * loss


def blanking_loss(log_probs: Tensor, whole: Tensor, wanted: Tensor) -> Tensor:
    """How little words tell whether what they name can be seen.

    Of a hidden word, the loss is that of a logistic regression that tells by the difference of its log-odds which of
    two photographs is the whole one, the mean over hidden words weighted by their probability there: those count that
    captions are made of. It raises a word with the whole photograph as much as it lowers it without: if it were only
    lowered, it would become unlikely with both. Of a word that is seen, it is what its probability lacks to that with
    the whole photograph, the mean over seen words. With q the probability of a word with the whole photograph and p
    the one without, this is

        sum_hidden q softplus(logit p - logit q) / sum_hidden q  +  mean_seen max(q - p, 0),

    where q has a gradient inside the softplus only.

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
    """Log-probabilities of the N words of a batch, in nats (N,)."""
    return teacher.logits.float().log_softmax(-1).gather(1, teacher.targets[:, None]).squeeze(1)


def wanted_of_words(blanked: BlankedPhrase, target: CaptionTargets | None) -> NDArray[np.int64] | None:
    """HIDDEN, SEEN or 0 of each word (words,) of a caption of a photograph with something blanked out.

    Phrases of which as large a part is gone as of the chosen one are hidden: HIDDEN of the last of their words.
    SEEN of all words of those that are nearly whole.

    Args:
        blanked: what is blanked out of the photograph.
        target: of the caption; None: nothing is known of it, and nothing is wanted.
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
    """How much of what covers the grid so (R, C) lies in these cells."""
    return float(coverage[cells].sum(dtype=np.float64) / coverage.sum(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class BlankedPhotograph:
    """A training photograph with something blanked out.

    Attributes:
        key: of its grid.
        whole: key of the grid of the photograph as it is.
        captions: as numbers, from `<start>` to `<end>`. They may have been cut.
        wanted: of each caption, as `wanted_of_words` gives it for all its words.
    """

    key: str
    whole: str
    captions: Sequence[Sequence[int]]
    wanted: Sequence[NDArray[np.int64] | None]


def blanked_batch(photographs: Sequence[BlankedPhotograph], grids: Grids) -> BlankedBatch | None:
    """`blanked` of a `Batch`; None where there are no such photographs."""
    if not photographs:
        return None
    captions = pad_captions([photograph.captions for photograph in photographs])
    wanted = np.zeros_like(captions)
    for row, photograph in enumerate(photographs):
        for slot, of_words in enumerate(photograph.wanted):
            if of_words is not None:
                words = len(photograph.captions[slot]) - 2  # those that were not cut
                wanted[row, slot, 1 : words + 1] = of_words[:words]
    return BlankedBatch(
        torch.as_tensor(grids.read(photograph.key for photograph in photographs)),
        torch.as_tensor(grids.read(photograph.whole for photograph in photographs)),
        torch.from_numpy(captions),
        torch.from_numpy(wanted),
    )
