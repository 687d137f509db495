"""Self-critical sequence training: captions the network draws, rewarded by their CIDEr-D.

Rennie, Marcheret, Mroueh, Ross and Goel, "Self-critical Sequence Training for Image Captioning", CVPR 2017, with the
baseline of Luo, "A Better Variant of Self-Critical Sequence Training", 2020: a caption is compared with the others that
were drawn for its photograph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.network import CaptioningNetwork, Teacher
from captionlens.network.loss import smoothed_cross_entropy
from captionlens.network.sampling import sample, without
from captionlens.runtime.decoding import FORBIDDEN
from captionlens.runtime.vocabulary import END, START
from captionlens.scoring.cider_reward import CiderReward


class Rewards:
    """CIDEr-D of drawn captions against those of their photographs, all as word numbers.

    `<end>` counts as a word on both sides. Without it a caption gains by stopping in the middle of what many
    references say, after "a" or "in a".

    Args:
        photographs: keys of the training photographs, and their captions from `<start>` to `<end>`.
    """

    def __init__(self, photographs: Sequence[tuple[str, Sequence[Sequence[int]]]]) -> None:
        self._numbers = {key: number for number, (key, _) in enumerate(photographs)}
        self._cider = CiderReward([[caption[1:] for caption in captions] for _, captions in photographs])

    def score(self, keys: Sequence[str], captions: Tensor) -> Tensor:
        """CIDEr-D, from 0 to 10, of captions (P, K, T) from `<start>`, padded with 0: float64 (P, K)."""
        numbers = np.array([self._numbers[key] for key in keys])
        rows: NDArray[np.int64] = captions[:, :, 1:].flatten(0, 1).cpu().numpy()
        lengths = (rows != 0).sum(1)
        said = [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]
        scores = self._cider.score_many(numbers.repeat(captions.shape[1]), said)
        return torch.from_numpy(scores).view(captions.shape[:2])


@dataclass(frozen=True, slots=True)
class Draw:
    """K captions for each of P photographs, and what they are worth.

    `captions` (P, K, T) go from `<start>` to `<end>`, padded with 0, a photograph's longest first. `rewards` and
    `advantages` (P, K) are float64.
    """

    captions: Tensor
    rewards: Tensor
    advantages: Tensor

    @property
    def word_count(self) -> int:
        """Words that were drawn, `<end>` among them."""
        return int((self.captions[:, :, 1:] != 0).sum())


def draw(
    network: CaptioningNetwork, features: Tensor, keys: Sequence[str], rewards: Rewards, *, count: int, max_words: int
) -> Draw:
    """Draw captions as the network would say them, and reward them.

    Args:
        network: in evaluation mode: captions are drawn without dropout.
        features: grid features (P, L, D).
        keys: of the photographs.
        rewards: of the training set.
        count: K, at least 2.
        max_words: longer captions are cut, and have no `<end>` then.
    """
    samples = sample(network, features, count, max_words=max_words, forbidden=FORBIDDEN, start=START, end=END)
    lengths = (samples.captions != 0).sum(-1)  # (P, K)
    order = torch.argsort(lengths, dim=-1, descending=True, stable=True)  # as `teach` is fastest
    captions = samples.captions.gather(1, order[..., None].expand_as(samples.captions))
    scores = rewards.score(keys, captions)
    return Draw(captions, scores, advantages(scores))


def advantages(rewards: Tensor) -> Tensor:
    """How much better each of K captions is than the mean of the K - 1 others: (P, K) to (P, K)."""
    count = rewards.shape[-1]
    others = (rewards.sum(-1, keepdim=True) - rewards) / (count - 1)
    return rewards - others


def self_critical_loss(teacher: Teacher, drawn: Draw) -> Tensor:
    """- mean over words of the advantage of its caption times the word's log-probability.

    Its gradient is that of the mean negative reward, estimated, but for a factor: the mean length of the captions.
    Probabilities are those that captions are drawn by: some words are never said.

    Args:
        teacher: of the drawn captions.
        drawn: those captions.
    """
    layer = teacher.output_words
    importance = of_words(drawn.captions, drawn.advantages)
    bias = without(layer, FORBIDDEN)
    loss, _ = smoothed_cross_entropy(teacher.hidden, layer.weight, bias, teacher.targets, 0.0, importance)
    return loss


def of_words(captions: Tensor, values: Tensor) -> Tensor:
    """One value a caption (P, K) to one a word that `teach` predicts (N,), in its order: by time, photograph, slot."""
    there = (captions[:, :, 1:] != 0).permute(2, 0, 1)  # (T - 1, P, K)
    return values.to(there.device).expand(there.shape)[there]
