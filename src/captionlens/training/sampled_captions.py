"""Captions sampled from the network for the photographs of a batch."""

import torch
from torch import Tensor

from captionlens.network import CaptioningNetwork
from captionlens.network.sampling import sample
from captionlens.runtime.decoding import FORBIDDEN
from captionlens.runtime.vocabulary import END, START


def sample_captions(network: CaptioningNetwork, features: Tensor, *, count: int, max_words: int) -> Tensor:
    """Sample captions (P, K, T) from `<start>` to `<end>`, padded with 0, the longest of a photograph first.

    Args:
        network: run without dropout, whichever mode it is in.
        features: grid features (P, L, D).
        count: K.
        max_words: longer captions are cut, and have no `<end>`.
    """
    training = network.training
    network.eval()
    captions = sample(network, features, count, max_words=max_words, forbidden=FORBIDDEN, start=START, end=END).captions
    network.train(training)
    lengths = (captions != 0).sum(-1)  # (P, K)
    order = torch.argsort(lengths, dim=-1, descending=True, stable=True)  # the fastest order in `teach`
    return captions.gather(1, order[..., None].expand_as(captions))
