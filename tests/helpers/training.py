"""Small networks and batches for tests of what training minimises."""

from dataclasses import replace

import torch
from torch import Tensor

from captionlens.network import CaptioningNetwork, NetworkConfig
from captionlens.training.batch import Batch


def hard_network() -> CaptioningNetwork:
    """A network with hard attention over three places and six words, in training mode."""
    torch.manual_seed(1)
    sizes = NetworkConfig(6, 1, 3, 5, memory=8, embedding=8, units=8, attention=8)
    config = replace(sizes, attention_kind="hard", word_query=True)
    network = CaptioningNetwork(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)  # so that places matter
    return network.train()


def batch_of(
    captions: Tensor,
    *,
    caption_share: float = 1.0,
    word_share: float = 1.0,
    phrases: Tensor | None = None,
    coverages: Tensor | None = None,
) -> Batch:
    """A batch with these captions (P, C, T), and grids that nobody reads."""
    return Batch(
        features=torch.zeros(len(captions), 1, 1),
        captions=captions,
        caption_count=int((captions[:, :, 0] != 0).sum()),
        word_count=int((captions[:, :, 1:] != 0).sum()),
        caption_share=caption_share,
        word_share=word_share,
        keys=tuple(map(str, range(len(captions)))),
        phrases=phrases,
        coverages=coverages,
    )
