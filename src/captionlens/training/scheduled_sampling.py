"""Scheduled sampling: teacher forcing with some of the previous words sampled from the network.

Bengio, Vinyals, Jaitly and Shazeer, "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks", NIPS
2015, in two passes: the first, over the true words, samples a word at every step, and the second reads some of these.
(Mihaylova and Martins, "Scheduled Sampling for Transformers", ACL student research workshop 2019; Duckworth et al.,
"Parallel Scheduled Sampling", 2019.)
"""

import torch
from torch import Tensor

from captionlens.network import CaptioningNetwork
from captionlens.network.sampling import draw_words, without
from captionlens.runtime.decoding import FORBIDDEN
from captionlens.runtime.vocabulary import END, PAD


def sampling_probability(highest: float, epoch: int, epochs: int) -> float:
    """Probability that a previous word is sampled: from 0 in the first epoch, number 0, to `highest` in the last, the
    linear schedule of Bengio et al."""
    return highest * epoch / max(epochs - 1, 1)


@torch.no_grad()
def sample_inputs(network: CaptioningNetwork, features: Tensor, captions: Tensor, probability: float) -> Tensor:
    """Replace words of captions (P, C, T) by words sampled from the network at the same step.

    `<start>`, `<end>` and padding stay. None of the three, nor `<unk>`, replaces a word, since decoding never feeds
    them back.

    Args:
        network: run without dropout, whichever mode it is in.
        features: grid features (P, L, D).
        captions: (P, C, T) from `<start>` to `<end>`, padded with 0.
        probability: that a word is replaced.
    """
    kind = features.device.type
    training = network.training
    network.eval()
    # Autocast would cache its casts of the weights, which have no gradient here.
    with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False):
        teacher = network.teach(features, captions)
        layer = teacher.output_words
        hidden = teacher.hidden[: len(teacher.targets)]
        logits = torch.nn.functional.linear(hidden, layer.weight, without(layer, (*FORBIDDEN, END)))
    network.train(training)
    words, _ = draw_words(logits.to(layer.weight.dtype))
    targets = captions[:, :, 1:].permute(2, 0, 1)  # (T - 1, P, C), the word order of `teach`
    said = targets.masked_scatter(targets != PAD, words).permute(1, 2, 0)  # (P, C, T - 1)
    words_there = (captions[:, :, 1:] != PAD) & (captions[:, :, 1:] != END)
    chosen = words_there & (torch.rand(said.shape, device=said.device) < probability)
    return torch.cat([captions[:, :, :1], torch.where(chosen, said, captions[:, :, 1:])], -1)
