"""The cross-entropy in one pass against PyTorch's own."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from captionlens.network import compiled_loops
from captionlens.network.smoothed_cross_entropy import SoftTargets, smoothed_cross_entropy


def assert_same_gradients(loss: Tensor, expected: Tensor, values: list[Tensor]) -> None:
    gradients, wanted = torch.autograd.grad(3 * loss, values), torch.autograd.grad(3 * expected, values)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("count", "filling"), [(1, 0), (64, 5), (131, 29)])
def test_losses_and_gradients_are_those_of_pytorch(count: int, filling: int, smoothing: float) -> None:
    torch.manual_seed(0)
    shapes = (count + filling, 6), (17, 6), (17,)
    hidden, weight, bias = values = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    targets = torch.randint(17, (count,))
    loss, plain, of_words = smoothed_cross_entropy(hidden, 5 * weight, bias, targets, smoothing)
    logits = linear(hidden[:count], 5 * weight, bias)
    expected = cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(plain, cross_entropy(logits, targets).detach(), rtol=0, atol=1e-12)
    each = cross_entropy(logits, targets, reduction="none").detach()
    torch.testing.assert_close(of_words, each, rtol=0, atol=1e-12)
    assert not plain.requires_grad
    assert not of_words.requires_grad
    assert_same_gradients(loss, expected, values)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    torch.manual_seed(0)
    # A layer of ones and zeros hands its input on without rounding.
    hidden = (5 * torch.randn(300, 500)).bfloat16().requires_grad_()
    weight, bias = torch.eye(500, dtype=torch.bfloat16), torch.randn(500)
    targets = torch.randint(500, (300,))
    loss, *_ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.1)
    expected = cross_entropy(hidden.float() + bias, targets, label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, hidden)
    (wanted,) = torch.autograd.grad(expected, hidden)
    # Each rounded to 8 bits, ours twice: three errors of at most 2^-9.
    torch.testing.assert_close(gradient, wanted, rtol=2**-7, atol=1e-9)


def test_logits_of_any_size_and_sign_are_sound() -> None:
    hidden = torch.tensor([[1.0], [-1.0], [0.0]])
    weight, bias = torch.tensor([[-3e4], [-2e4], [-1e4]]), torch.tensor([0.0, -1e4, 5.0])
    loss, plain, _ = smoothed_cross_entropy(hidden, weight, bias, torch.tensor([2, 0, 2]), 0.0)
    assert loss == plain
    assert loss.item() == pytest.approx(math.log1p(math.exp(-5)) / 3)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_important_words_count_more(smoothing: float, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(compiled_loops, "serve", lambda _: False)
    torch.manual_seed(0)
    shapes = (70, 6), (17, 6), (17,)
    hidden, weight, bias = values = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    targets, importance = torch.randint(17, (61,)), torch.randn(61, dtype=torch.float64)
    loss, plain, _ = smoothed_cross_entropy(hidden, weight, bias, targets, smoothing, importance)
    logits = linear(hidden[:61], weight, bias)
    losses = cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    expected = (importance * losses).mean()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(plain, cross_entropy(logits, targets).detach())
    assert_same_gradients(loss, expected, values)


def test_important_words_count_more_in_half_precision() -> None:
    torch.manual_seed(0)
    hidden = (5 * torch.randn(300, 500)).bfloat16().requires_grad_()
    weight, bias = torch.eye(500, dtype=torch.bfloat16), torch.randn(500)
    targets, importance = torch.randint(500, (300,)), torch.randn(300)
    loss, *_ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.0, importance)
    losses = cross_entropy(hidden.float() + bias, targets, reduction="none")
    expected = (importance * losses).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    (gradient,), (wanted,) = torch.autograd.grad(loss, hidden), torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(gradient, wanted, rtol=2**-7, atol=1e-8)


def test_importance_of_one_changes_no_bit() -> None:
    torch.manual_seed(0)
    hidden, weight, bias = values = [torch.randn(shape).requires_grad_() for shape in ((70, 6), (17, 6), (17,))]
    targets = torch.randint(17, (70,))
    loss, *_ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.1)
    other, *_ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.1, torch.ones(70))
    for one, two in zip(torch.autograd.grad(loss, values), torch.autograd.grad(other, values), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("important", [False, True])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_targets(smoothing: float, compiled: bool, important: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against PyTorch's own cross-entropy with whole distributions; words may repeat, and some rows have no masses."""
    if not compiled:
        monkeypatch.setattr(compiled_loops, "serve", lambda _: False)
    torch.manual_seed(0)
    shapes = (70, 6), (17, 6), (17,)
    hidden, weight, bias = values = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    targets, words = torch.randint(17, (61,)), torch.randint(17, (61, 4))
    words[:9, 1] = words[:9, 0]
    words[9:18, 2] = targets[9:18]
    masses = torch.rand(61, 4, dtype=torch.float64) / 4
    masses[50:] = 0
    importance = torch.randn(61, dtype=torch.float64) if important else None
    loss, plain, of_words = smoothed_cross_entropy(
        hidden, weight, bias, targets, smoothing, importance, SoftTargets(words, masses)
    )
    logits = linear(hidden[:61], weight, bias)
    rest = 1 - masses.sum(1, keepdim=True)
    distribution = rest * ((1 - smoothing) * torch.eye(17, dtype=torch.float64)[targets] + smoothing / 17)
    distribution = distribution.scatter_add(1, words, masses)
    losses = cross_entropy(logits, distribution, reduction="none")
    expected = (losses if importance is None else importance * losses).mean()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(of_words, cross_entropy(logits, targets, reduction="none").detach())
    torch.testing.assert_close(plain, of_words.mean())
    assert_same_gradients(loss, expected, values)


def test_soft_targets_in_half_precision() -> None:
    torch.manual_seed(0)
    hidden = (5 * torch.randn(300, 500)).bfloat16().requires_grad_()
    weight, bias = torch.eye(500, dtype=torch.bfloat16), torch.randn(500)
    targets, words = torch.randint(500, (300,)), torch.randint(500, (300, 8))
    masses = torch.rand(300, 8) / 8
    loss, *_ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.1, None, SoftTargets(words, masses))
    rest = 1 - masses.sum(1, keepdim=True)
    distribution = (rest * (0.9 * torch.eye(500)[targets] + 0.1 / 500)).scatter_add(1, words, masses)
    expected = cross_entropy(hidden.float() + bias, distribution)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    (gradient,), (wanted,) = torch.autograd.grad(loss, hidden), torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(gradient, wanted, rtol=2**-7, atol=1e-8)
