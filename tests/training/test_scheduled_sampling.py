"""Scheduled sampling: which words before are replaced, and by what."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captionlens.errors import OptionError
from captionlens.network import CaptioningNetwork, NetworkConfig
from captionlens.runtime.decoding import FORBIDDEN
from captionlens.runtime.vocabulary import END, START
from captionlens.training.config import make_config
from captionlens.training.scheduled_sampling import sample_inputs, sampling_probability

WORDS = 30


def network_and_batch(certainty: float) -> tuple[CaptioningNetwork, Tensor, Tensor]:
    """A network in training mode, features of 3 photographs, and captions of which one photograph has fewer."""
    torch.manual_seed(0)
    sizes = NetworkConfig(WORDS, 2, 3, 10, memory=12, embedding=8, units=16, attention=8)
    config = replace(sizes, gated_context=True, deep_output=True, dropout=0.5)
    network = CaptioningNetwork(config)
    with torch.no_grad():
        network.output_words.weight.mul_(certainty)
    captions = torch.randint(4, WORDS, (3, 2, 9))
    captions[:, :, 0] = START
    for row, lengths in enumerate([(9, 5), (6, 6), (4, 0)]):
        for slot, length in enumerate(lengths):
            captions[row, slot, length:] = 0
            captions[row, slot, max(length - 1, 0) : length] = END
    return network, torch.rand(3, 6, 10), captions


def test_words_are_those_the_network_says_after_the_true_ones() -> None:
    network, features, captions = network_and_batch(certainty=1e4)  # one word has all the probability
    inputs = sample_inputs(network, features, captions, 1.0)
    assert network.training
    network.eval()
    memory, keys, state = network.start(features)
    state = state.expand(-1, 2, -1)
    replaced = 0
    for time in range(8):
        log_probs, _, state = network.step(captions[:, :, time], memory, keys, state)
        log_probs = log_probs.index_fill(-1, torch.tensor([*FORBIDDEN, END]), -torch.inf)
        true = captions[:, :, time + 1]
        word = (true != 0) & (true != END)
        assert inputs[:, :, time + 1].tolist() == torch.where(word, log_probs.argmax(-1), true).tolist()
        replaced += int(word.sum())
    assert replaced == 7 + 3 + 4 + 4 + 2
    assert inputs[:, :, 0].tolist() == captions[:, :, 0].tolist()
    assert (inputs != captions).sum() > replaced / 2


def test_words_are_drawn_and_replaced_as_often_as_they_should() -> None:
    network, features, captions = network_and_batch(certainty=1.0)
    captions = captions.clamp(max=WORDS - 1)
    torch.manual_seed(1)
    often = features[:1].repeat(2000, 1, 1), captions[:1].repeat(2000, 1, 1)
    first = sample_inputs(network, *often, 0.25)[:, 0, 1]
    network.eval()
    memory, keys, state = network.start(features[:1])
    chances = network.step(torch.full((1, 1), START), memory, keys, state)[0][0, 0].exp().detach()
    chances[[*FORBIDDEN, END]] = 0
    expected = 0.25 * chances / chances.sum()
    expected[captions[0, 0, 1]] += 0.75
    found = torch.bincount(first, minlength=WORDS)
    assert (found[expected == 0] == 0).all()
    chi_square = ((found - 2000 * expected) ** 2 / (2000 * expected))[expected > 0].sum()
    assert chi_square < 60  # 25 degrees of freedom: by chance once in 10,000 seeds


def test_half_precision_passes_a_gradient_on_after_it() -> None:
    network, features, captions = network_and_batch(certainty=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        inputs = sample_inputs(network, features, captions, 1.0)
        logits = network.teach(features, captions, inputs).logits
    torch.nn.functional.cross_entropy(
        logits.float(), captions[:, :, 1:].permute(2, 0, 1)[captions[:, :, 1:].permute(2, 0, 1) != 0]
    ).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in network.parameters())


def test_teaching_reads_the_inputs_and_predicts_the_captions() -> None:
    network, features, captions = network_and_batch(certainty=1.0)
    network.eval()
    inputs = sample_inputs(network, features, captions, 0.5)
    assert (inputs != captions).any()
    teacher = network.teach(features, captions, inputs)
    memory, keys, state = network.start(features)
    state = state.expand(-1, 2, -1)
    expected, targets = [], []
    for time in range(8):
        log_probs, _, state = network.step(inputs[:, :, time], memory, keys, state)
        there = captions[:, :, time + 1] != 0
        expected.append(log_probs[there])
        targets.append(captions[:, :, time + 1][there])
    assert teacher.targets.tolist() == torch.cat(targets).tolist()
    torch.testing.assert_close(teacher.logits.log_softmax(-1), torch.cat(expected), rtol=0, atol=1e-5)
    same, plain = network.teach(features, captions, captions), network.teach(features, captions)
    assert torch.equal(same.hidden, plain.hidden)


def test_sampling_probability_grows_by_the_epoch() -> None:
    assert [sampling_probability(0.4, epoch, 5) for epoch in range(5)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert sampling_probability(0.4, 0, 1) == 0
    assert make_config("base").scheduled_sampling == 0
    with pytest.raises(OptionError, match=r"scheduled_sampling must be in \[0, 1\], got 1.5"):
        make_config("base", {"scheduled_sampling": 1.5})
