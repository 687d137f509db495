"""Self-critical sequence training: REINFORCE on sampled captions with CIDEr-D as the reward.

Rennie, Marcheret, Mroueh, Ross and Goel, "Self-critical Sequence Training for Image Captioning", CVPR 2017, with the
baseline of Luo, "A Better Variant of Self-Critical Sequence Training", 2020: the mean reward of the other captions
sampled for the same photograph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.network import CaptioningNetwork, Teacher
from captionlens.network.sampling import without
from captionlens.network.smoothed_cross_entropy import smoothed_cross_entropy
from captionlens.runtime.decoding import FORBIDDEN
from captionlens.scoring.cider_reward import CiderReward
from captionlens.training.batch import Batch
from captionlens.training.distributed import Processes
from captionlens.training.sampled_captions import sample_captions


class Rewards:
    """CIDEr-D of sampled captions against the references of their photographs, all as word indices.

    `<end>` counts as a word on both sides. Without it, captions are rewarded for stopping in the middle of common
    n-grams, after "a" or "in a".

    Args:
        photographs: keys of the training photographs, and their captions from `<start>` to `<end>`.
    """

    def __init__(self, photographs: Sequence[tuple[str, Sequence[Sequence[int]]]]) -> None:
        self._numbers = {key: number for number, (key, _) in enumerate(photographs)}
        self._cider = CiderReward([[caption[1:] for caption in captions] for _, captions in photographs])

    def score(self, keys: Sequence[str], captions: Tensor) -> Tensor:
        """Compute the CIDEr-D, from 0 to 10, of captions (P, K, T) from `<start>`, padded with 0: float64 (P, K)."""
        numbers = np.array([self._numbers[key] for key in keys])
        rows: NDArray[np.int64] = captions[:, :, 1:].flatten(0, 1).cpu().numpy()
        lengths = (rows != 0).sum(1)
        said = [row[:length].tolist() for row, length in zip(rows, lengths, strict=True)]
        scores = self._cider.score_many(numbers.repeat(captions.shape[1]), said)
        return torch.from_numpy(scores).view(captions.shape[:2])


class SelfCriticalLoss(NamedTuple):
    """The loss, and for the whole batch the mean reward and the number of the sampled captions."""

    loss: Tensor
    reward: float
    caption_count: int


@dataclass(frozen=True, slots=True)
class SelfCritical:
    """The negative mean reward of sampled captions, by REINFORCE: see `self_critical_loss`.

    It replaces the cross-entropy and all other terms of teacher forcing on the reference captions.

    Requires the `keys` of the photographs in a batch; its captions are not used.

    Attributes:
        rewards: of the training set.
        samples: captions per photograph, K, at least 2.
        max_words: longer captions are cut.
    """

    rewards: Rewards
    samples: int
    max_words: int

    def loss(self, network: CaptioningNetwork, batch: Batch, processes: Processes) -> SelfCriticalLoss:
        """Sample captions, compute their rewards, and run teacher forcing on them.

        Args:
            network: in training mode. Captions are sampled without dropout; teacher forcing uses it, against
                overfitting to few photographs.
            batch: the part of this process.
            processes: of distributed training; all of them call this.
        """
        captions = sample_captions(network, batch.features, count=self.samples, max_words=self.max_words)
        rewards = self.rewards.score(batch.keys, captions)
        teacher = network.teach(batch.features, captions)
        loss = self_critical_loss(teacher, advantages(rewards))
        present = batch.caption_share > 0  # else this process's photograph has weight 0
        own = torch.tensor([len(teacher.targets), rewards.numel(), float(rewards.sum())], dtype=torch.float64)
        own = present * own.to(captions.device)
        words, count, reward = map(float, processes.total(own))
        return SelfCriticalLoss(processes.count * float(own[0]) / words * loss, reward / count, int(count))


def advantages(rewards: Tensor) -> Tensor:
    """Advantage (P, K) of each of K rewards (P, K) over the mean of the K - 1 others."""
    count = rewards.shape[-1]
    others = (rewards.sum(-1, keepdim=True) - rewards) / (count - 1)
    return rewards - others


def self_critical_loss(teacher: Teacher, advantages: Tensor) -> Tensor:
    """Negative mean over words of the caption's advantage times the word's log-probability.

    Its gradient estimates that of the mean negative reward, up to a factor: the mean length of the captions. The
    probabilities are those of the sampling distribution, in which some words are forbidden.

    Args:
        teacher: of sampled captions.
        advantages: of each of them (P, K).
    """
    layer = teacher.output_words
    importance = teacher.words.of_captions(advantages)
    bias = without(layer, FORBIDDEN)
    return smoothed_cross_entropy(teacher.hidden, layer.weight, bias, teacher.targets, 0.0, importance).smoothed
