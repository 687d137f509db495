"""The gradient of hard attention against the exact one, and the baseline that makes it less random."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from captionlens.training.objectives.cross_entropy import CrossEntropy
from captionlens.training.objectives.reinforce import Reinforce, reinforce_loss, update_baseline
from helpers.training import batch_of, hard_network


def test_baseline_follows_the_log_probabilities_of_each_word() -> None:
    baseline, expected = torch.full((4,), -2.0), [-2.0] * 4
    for targets, log_probs in [([1, 2, 1], [-1.0, -4.0, -1.0]), ([2, 2], [-3.0, -3.0])]:
        update_baseline(baseline, torch.tensor(targets), torch.tensor(log_probs))
        for word, log_prob in zip(targets, log_probs, strict=True):
            expected[word] += 0.1 * (log_prob - expected[word])
    torch.testing.assert_close(baseline, torch.tensor(expected))


@pytest.mark.parametrize("baseline", [0.0, -1.5, [0.3, -2.0]])
def test_gradient_of_hard_attention_is_that_of_the_expected_loss(
    baseline: float | list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = hard_network()
    features, captions = torch.rand(1, 3, 5), torch.tensor([[[1, 4, 2]]])  # two words, three places: nine outcomes
    draws = torch.zeros(2)
    monkeypatch.setattr(network, "_draws", lambda words: draws)
    weights = list(network.parameters())
    expected_loss = torch.zeros(())
    estimates = [torch.zeros_like(weight) for weight in weights]
    total = 0.0
    for outcome in itertools.product(range(3), repeat=2):
        for word, place in enumerate(outcome):
            # The draw that makes the word look at this place: the middle of its part of the interval.
            alpha = network.teach(features, captions).attention[word].detach()
            draws[word] = alpha[:place].sum() + alpha[place] / 2
        teacher = network.teach(features, captions)
        assert teacher.chosen is not None
        assert tuple(teacher.chosen.tolist()) == outcome
        probability = teacher.attention[0, outcome[0]] * teacher.attention[1, outcome[1]]
        log_probs = teacher.logits.log_softmax(-1).gather(1, teacher.targets[:, None])
        expected_loss = expected_loss - probability * log_probs.mean()
        cross_entropy = CrossEntropy().loss(teacher, batch_of(captions))
        loss = cross_entropy.total + reinforce_loss(teacher, -cross_entropy.of_words, torch.tensor(baseline))
        for estimate, part in zip(estimates, gradients(loss, weights), strict=True):
            estimate += probability.detach() * part
        total += probability.item()
    assert total == pytest.approx(1)
    exact = gradients(expected_loss, weights)
    attention = exact[[name for name, _ in network.named_parameters()].index("attention.score_layer.weight")]
    assert attention.abs().max() > 1e-3  # there is something to be right about
    for estimate, wanted in zip(estimates, exact, strict=True):
        torch.testing.assert_close(estimate, wanted, rtol=1e-4, atol=1e-6)


def gradients(loss: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Zero where a weight has no part in the loss."""
    found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if gradient is None else gradient for w, gradient in zip(weights, found, strict=True)]


def test_each_word_has_its_own_baseline_and_the_term_its_weight_and_share() -> None:
    network = hard_network()
    captions = torch.tensor([[[1, 4, 2], [1, 5, 2]]])
    teacher = network.teach(torch.rand(1, 3, 5), captions)
    baseline, log_probs = torch.tensor([0.0, 0.0, -1.0, 0.0, -2.0, -3.0]), torch.tensor([-1.0, -2.0, -3.0, -4.0])
    assert teacher.targets.tolist() == [4, 5, 2, 2]
    term = Reinforce(0.5).loss(teacher, batch_of(captions, word_share=0.25), log_probs, baseline)
    expected = reinforce_loss(teacher, log_probs, torch.tensor([-2.0, -3.0, -1.0, -1.0]))
    torch.testing.assert_close(term, 0.5 * 0.25 * expected)
    assert expected != 0
