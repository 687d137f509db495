"""Scheduled sampling: teacher forcing in which some words before are the network's own.

Bengio, Vinyals, Jaitly and Shazeer, "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks", NIPS
2015, in two passes: all words are drawn after a pass over the true ones, and a second pass reads some of them.
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
    """Probability that a word before is the network's own: from 0 in the first epoch, number 0, to `highest` in the
    last, the linear schedule of Bengio et al."""
    return highest * epoch / max(epochs - 1, 1)


@torch.no_grad()
def sample_inputs(network: CaptioningNetwork, features: Tensor, captions: Tensor, probability: float) -> Tensor:
    """Captions (P, C, T) in which words have been replaced by what the network would have said there.

    `<start>`, `<end>` and padding stay, and none of the three, nor `<unk>`, takes the place of a word: what a caption
    goes on from is a word that can be said.

    Args:
        network: says its words without dropout, whichever mode it is in.
        features: grid features (P, L, D).
        captions: (P, C, T) from `<start>` to `<end>`, padded with 0.
        probability: that a word is replaced.
    """
    kind = features.device.type
    training = network.training
    network.eval()
    # Autocast would remember the casts it makes of weights, and they have no gradient here.
    with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False):
        teacher = network.teach(features, captions)
        layer = teacher.output_words
        hidden = teacher.hidden[: len(teacher.targets)]
        logits = torch.nn.functional.linear(hidden, layer.weight, without(layer, (*FORBIDDEN, END)))
    network.train(training)
    words, _ = draw_words(logits.to(layer.weight.dtype))
    targets = captions[:, :, 1:].permute(2, 0, 1)  # (T - 1, P, C), as `teach` orders its words
    said = targets.masked_scatter(targets != PAD, words).permute(1, 2, 0)  # (P, C, T - 1)
    words_there = (captions[:, :, 1:] != PAD) & (captions[:, :, 1:] != END)
    chosen = words_there & (torch.rand(said.shape, device=said.device) < probability)
    return torch.cat([captions[:, :, :1], torch.where(chosen, said, captions[:, :, 1:])], -1)
