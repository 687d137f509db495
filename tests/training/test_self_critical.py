"""Self-critical training: captions drawn as the network would say them, and a gradient that raises their reward."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captionlens.network import CaptioningNetwork, NetworkConfig, compiled_loops, sampling
from captionlens.network.sampling import sample, without
from captionlens.network.words import Words
from captionlens.runtime.decoding import FORBIDDEN
from captionlens.runtime.vocabulary import END, START
from captionlens.scoring.cider import CiderD
from captionlens.training.distributed import ALONE
from captionlens.training.objectives.self_critical import (
    Rewards,
    SelfCritical,
    advantages,
    self_critical_loss,
)
from captionlens.training.sampled_captions import sample_captions
from helpers.training import batch_of

BASE: dict[str, Any] = {"initial_state": "mean", "gated_context": True, "deep_output": True}
WORDS = 12


def small_network(**changes: Any) -> CaptioningNetwork:
    """Weights larger than training starts from, so that captions end and differ."""
    torch.manual_seed(0)
    options = BASE | {"memory": 12, "embedding": 8, "units": 16, "attention": 8, "dropout": 0.5} | changes
    network = CaptioningNetwork(NetworkConfig(WORDS, 2, 3, 10, **options))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return network.eval()


def draw_captions(network: CaptioningNetwork, features: Tensor, count: int, max_words: int) -> sampling.Samples:
    return sample(network, features, count, max_words=max_words, forbidden=FORBIDDEN, start=START, end=END)


def without_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_loops, "serve", lambda *_, **__: False)


@pytest.mark.parametrize("changes", [{}, {"word_query": True}, {"gated_context": False, "deep_output": False}])
@pytest.mark.parametrize("plainly", [False, True])
def test_drawing_and_teaching_agree(changes: dict[str, bool], plainly: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if plainly:
        without_compiled_loops(monkeypatch)
    network = small_network(**changes)
    features = torch.rand(5, 6, 10)
    samples = draw_captions(network, features, 4, 9)
    teacher = network.teach(features, samples.captions)
    layer = teacher.output_words
    logits = torch.nn.functional.linear(teacher.hidden[: len(teacher.targets)], layer.weight, without(layer, FORBIDDEN))
    expected = logits.log_softmax(-1).gather(-1, teacher.targets[:, None]).squeeze(-1)
    there = (samples.captions[:, :, 1:] != 0).permute(2, 0, 1)
    torch.testing.assert_close(samples.log_probs.permute(2, 0, 1)[there], expected, rtol=0, atol=1e-5)
    assert (samples.log_probs.permute(2, 0, 1)[~there] == 0).all()


def test_fast_and_plain_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network, features = small_network(word_query=True), torch.rand(6, 6, 10)
    torch.manual_seed(1)
    fast = draw_captions(network, features, 5, 9)
    without_compiled_loops(monkeypatch)
    torch.manual_seed(1)
    plain = draw_captions(network, features, 5, 9)
    assert fast.captions.tolist() == plain.captions.tolist()
    torch.testing.assert_close(fast.log_probs, plain.log_probs, rtol=0, atol=1e-5)


def test_captions_end_once_or_are_cut_and_say_nothing_forbidden() -> None:
    captions = draw_captions(small_network(), torch.rand(20, 6, 10), 10, 4).captions.flatten(0, 1)
    assert (captions[:, 0] == START).all()
    lengths = []
    for caption in captions[:, 1:].tolist():
        said = [word for word in caption if word]
        assert caption[: len(said)] == said
        assert not set(said) & set(FORBIDDEN)
        assert END not in said[:-1]
        assert len(said) <= 5 if said[-1] == END else len(said) == 4
        lengths.append(said[-1] == END)
    assert 0 < sum(lengths) < len(lengths)


def test_words_are_drawn_as_often_as_they_are_likely() -> None:
    network, features = small_network(), torch.rand(2, 6, 10)
    torch.manual_seed(2)
    count = 20_000
    words = draw_captions(network, features, count, 1).captions[:, :, 1]
    with torch.no_grad():
        memory, keys, state = network.start(features)
        log_probs, *_ = network.step(torch.full((2, 1), START), memory, keys, state)
    expected = log_probs[:, 0].exp().double()
    expected[:, list(FORBIDDEN)] = 0
    # The first word that is no end is kept; an end or no other word is what the cut at one word leaves.
    expected = count * expected / expected.sum(-1, keepdim=True)
    for row in range(2):
        found = torch.bincount(words[row], minlength=WORDS).double()
        said = expected[row] > 0
        assert (found[~said] == 0).all()
        chi_square = ((found - expected[row]) ** 2)[said] / expected[row][said]
        assert chi_square.sum() < 30  # 8 degrees of freedom: by chance once in 5,000 seeds


def test_rewards_are_cider_with_the_end_as_a_word() -> None:
    photographs = [("a", [[1, 4, 5, 6, 2], [1, 4, 7, 2]]), ("b", [[1, 8, 9, 2]]), ("c", [[1, 4, 9, 5, 6, 2]])]
    captions = torch.tensor([[[1, 4, 5, 6, 2, 0], [1, 4, 7, 5, 6, 2]], [[1, 4, 9, 0, 0, 0], [1, 2, 0, 0, 0, 0]]])
    scores = Rewards(photographs).score(("a", "c"), captions)
    plain = CiderD({key: [caption[1:] for caption in captions] for key, captions in photographs})
    expected = [[plain.score("a", [4, 5, 6, 2]), plain.score("a", [4, 7, 5, 6, 2])]]
    expected += [[plain.score("c", [4, 9]), plain.score("c", [2])]]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-12)
    assert scores.min() < scores.max()


def test_loss_is_that_of_a_few_lines() -> None:
    network, features = small_network(), torch.rand(3, 6, 10)
    captions = draw_captions(network, features, 4, 6).captions
    rewards = torch.rand(3, 4, dtype=torch.float64)
    worth = torch.empty_like(rewards)
    for photograph in range(3):
        for slot in range(4):
            others = [float(rewards[photograph, other]) for other in range(4) if other != slot]
            worth[photograph, slot] = rewards[photograph, slot] - sum(others) / 3
    torch.testing.assert_close(advantages(rewards), worth)
    teacher = network.teach(features, captions)
    loss = self_critical_loss(teacher, advantages(rewards))
    total, words = torch.zeros(()), 0
    for photograph in range(3):
        memory, keys, first = network.start(features[photograph : photograph + 1])
        for slot in range(4):
            state = first
            for before, word in zip(captions[photograph, slot, :-1], captions[photograph, slot, 1:], strict=True):
                if word == 0:
                    break
                log_probs, _, state = network.step(before.view(1, 1), memory, keys, state)
                allowed = log_probs[0, 0].index_fill(0, torch.tensor(FORBIDDEN), -torch.inf)
                total = total - worth[photograph, slot] * allowed.log_softmax(-1)[word]
                words += 1
    assert words == len(teacher.targets)
    torch.testing.assert_close(loss, (total / words).float(), rtol=1e-4, atol=1e-6)
    parameters = list(network.parameters())
    ours, theirs = torch.autograd.grad(loss, parameters), torch.autograd.grad(total / words, parameters)
    for name, one, other in zip(dict(network.named_parameters()), ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6, msg=name)


def test_values_of_captions_go_to_their_words() -> None:
    captions = torch.tensor([[[1, 5, 2, 0], [1, 2, 0, 0]], [[1, 5, 6, 7], [1, 4, 2, 0]]])
    words = Words.of((captions[:, :, 1:] != 0).sum(-1))
    values = words.of_captions(torch.tensor([[10.0, 20.0], [30.0, 40.0]]))
    assert values.tolist() == [10, 20, 30, 40, 10, 30, 40, 30]  # by time, photograph, slot


def test_half_precision_draws_and_learns_nearly_the_same() -> None:
    network, features = small_network(), torch.rand(4, 6, 10)
    with torch.autocast("cpu", torch.bfloat16):
        samples = draw_captions(network, features, 5, 8)
        rewards = torch.rand(4, 5, dtype=torch.float64)
        loss = self_critical_loss(network.teach(features, samples.captions), advantages(rewards))
        halves = torch.autograd.grad(loss, list(network.parameters()))
    loss = self_critical_loss(network.teach(features, samples.captions), advantages(rewards))
    whole = torch.autograd.grad(loss, list(network.parameters()))
    one, other = (torch.cat([gradient.flatten() for gradient in gradients]) for gradients in (halves, whole))
    assert torch.cosine_similarity(one, other, dim=0) > 0.99


def test_training_raises_the_reward() -> None:
    # Eight photographs that differ; two captions for each, of words that it alone has and words that all have.
    network = small_network(dropout=0.0)
    features = torch.rand(8, 6, 10)
    photographs = [(str(n), [[1, 4, 5 + n % 4, 9 + n // 4, 2], [1, 5 + n % 4, 9 + n // 4, 2]]) for n in range(8)]
    objective = SelfCritical(Rewards(photographs), samples=8, max_words=6)
    batch = replace(batch_of(torch.tensor([[captions[0]] for _, captions in photographs])), features=features)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    torch.manual_seed(3)
    means = []
    for _ in range(150):
        loss, reward, _ = objective.loss(network, batch, ALONE)
        means.append(reward)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.mean(means[-10:]) > np.mean(means[:10]) + 1.5, means[::10]


def test_sampled_captions_go_from_long_to_short_and_leave_the_mode_as_it_was() -> None:
    network, features = small_network(dropout=0.9).train(), torch.rand(6, 6, 10)
    torch.manual_seed(1)
    captions = sample_captions(network, features, count=5, max_words=9)
    assert network.training
    assert ((captions != 0).sum(-1).diff(dim=1) <= 0).all()
    torch.manual_seed(1)
    expected = draw_captions(network.eval(), features, 5, 9).captions  # without dropout
    for ours, theirs in zip(captions.tolist(), expected.tolist(), strict=True):
        assert sorted(ours) == sorted(theirs)
