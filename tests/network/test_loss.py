"""The cross-entropy in one pass against PyTorch's own, and what training adds to it."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from captionlens.network import Teacher, compiled_loops
from captionlens.network.loss import caption_loss, smoothed_cross_entropy
from captionlens.network.words import Words


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("count", "filling"), [(1, 0), (64, 5), (131, 29)])
def test_losses_and_gradients_are_those_of_pytorch(count: int, filling: int, smoothing: float) -> None:
    torch.manual_seed(0)
    shapes = (count + filling, 6), (17, 6), (17,)
    hidden, weight, bias = values = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    targets = torch.randint(17, (count,))
    loss, plain = smoothed_cross_entropy(hidden, 5 * weight, bias, targets, smoothing)
    logits = linear(hidden[:count], 5 * weight, bias)
    expected = cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(plain, cross_entropy(logits, targets).detach(), rtol=0, atol=1e-12)
    assert not plain.requires_grad
    gradients = torch.autograd.grad(3 * loss, values)
    wanted = torch.autograd.grad(3 * expected, values)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    torch.manual_seed(0)
    # A layer of ones and zeros hands its input on without rounding.
    hidden = (5 * torch.randn(300, 500)).bfloat16().requires_grad_()
    weight, bias = torch.eye(500, dtype=torch.bfloat16), torch.randn(500)
    targets = torch.randint(500, (300,))
    loss, _ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.1)
    expected = cross_entropy(hidden.float() + bias, targets, label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, hidden)
    (wanted,) = torch.autograd.grad(expected, hidden)
    # Each rounded to 8 bits, ours twice: three errors of at most 2^-9.
    torch.testing.assert_close(gradient, wanted, rtol=2**-7, atol=1e-9)


def test_logits_of_any_size_and_sign_are_sound() -> None:
    hidden = torch.tensor([[1.0], [-1.0], [0.0]])
    weight, bias = torch.tensor([[-3e4], [-2e4], [-1e4]]), torch.tensor([0.0, -1e4, 5.0])
    loss, plain = smoothed_cross_entropy(hidden, weight, bias, torch.tensor([2, 0, 2]), 0.0)
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
    loss, plain = smoothed_cross_entropy(hidden, weight, bias, targets, smoothing, importance)
    logits = linear(hidden[:61], weight, bias)
    losses = cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    expected = (importance * losses).mean()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(plain, cross_entropy(logits, targets).detach())
    gradients, wanted = torch.autograd.grad(3 * loss, values), torch.autograd.grad(3 * expected, values)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_important_words_count_more_in_half_precision() -> None:
    torch.manual_seed(0)
    hidden = (5 * torch.randn(300, 500)).bfloat16().requires_grad_()
    weight, bias = torch.eye(500, dtype=torch.bfloat16), torch.randn(500)
    targets, importance = torch.randint(500, (300,)), torch.randn(300)
    loss, _ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.0, importance)
    losses = cross_entropy(hidden.float() + bias, targets, reduction="none")
    expected = (importance * losses).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    (gradient,), (wanted,) = torch.autograd.grad(loss, hidden), torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(gradient, wanted, rtol=2**-7, atol=1e-8)


def test_importance_of_one_changes_no_bit() -> None:
    torch.manual_seed(0)
    hidden, weight, bias = values = [torch.randn(shape).requires_grad_() for shape in ((70, 6), (17, 6), (17,))]
    targets = torch.randint(17, (70,))
    loss, _ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.1)
    other, _ = smoothed_cross_entropy(hidden, weight, bias, targets, 0.1, torch.ones(70))
    for one, two in zip(torch.autograd.grad(loss, values), torch.autograd.grad(other, values), strict=True):
        assert torch.equal(one, two)


def teacher(attention: list[list[float]]) -> Teacher:
    """Two captions of one word each, with this attention (2, L), and an empty slot beside them."""
    weights = torch.tensor(attention, dtype=torch.float64, requires_grad=True)  # (2, L)
    sums = torch.cat([weights, torch.zeros_like(weights[:1])])[None]  # (1, 3, L)
    present = torch.tensor([[True, True, False]])
    layer = torch.nn.Linear(3, 7, bias=True, dtype=torch.float64)
    torch.nn.init.zeros_(layer.bias)
    return Teacher(
        torch.zeros(2, 3, dtype=torch.float64),
        layer,
        torch.tensor([1, 4]),
        weights,
        sums,
        present,
        Words.of(torch.tensor([[1, 1, 0]])),
    )


def test_entropy_of_the_attention_is_in_nats_and_its_gradient_sharpens() -> None:
    taught = teacher([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    loss, plain, _ = caption_loss(taught, attention_entropy=0.5)
    assert plain.item() == pytest.approx(math.log(7))
    assert loss.item() == pytest.approx(math.log(7) + 0.5 * math.log(4) / 2)
    taught = teacher([[0.4, 0.2, 0.2, 0.2], [0.7, 0.1, 0.1, 0.1]])
    (gradient,) = torch.autograd.grad(caption_loss(taught, attention_entropy=0.5)[0], taught.attention)
    assert (gradient[:, 0] < gradient[:, 1]).all()  # the strongest place gains at the others' cost
    weights = torch.tensor([[0.0, -200.0], [300.0, 0.0]]).requires_grad_()
    alpha = weights.softmax(-1)  # exactly 0 and 1
    taught = replace(taught, attention=alpha)
    (gradient,) = torch.autograd.grad(caption_loss(taught, attention_entropy=0.5)[0], weights)
    assert (gradient == 0).all()


def test_doubly_stochastic_loss_is_that_of_the_captions_that_are_there() -> None:
    loss, plain, _ = caption_loss(teacher([[0.5, 0.5], [1.0, 0.0]]), doubly_stochastic=2.0)
    # ((1/2)^2 + (1/2)^2) / 2 and (0 + 1) / 2, their mean, twice.
    assert (loss - plain).item() == pytest.approx(2 * (0.25 + 0.5) / 2)


def test_supervision_is_the_log_of_the_attention_in_the_boxes_of_words_that_have_some() -> None:
    taught = teacher([[0.5, 0.3, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]])
    # Two captions with one word each and an empty slot (1, 3, T): the second word belongs to no phrase.
    phrases = torch.tensor([[[-1, 1, -1], [-1, -1, -1], [-1, -1, -1]]])
    coverages = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.5, 1.0, 0.0, 0.0]], dtype=torch.float64)
    loss, plain, _ = caption_loss(taught, attention_supervision=0.3, phrases=phrases, coverages=coverages)
    assert plain.item() == pytest.approx(math.log(7))
    assert loss.item() == pytest.approx(math.log(7) - 0.3 * math.log(0.5 * 0.5 + 0.3) / 2)
    (gradient,) = torch.autograd.grad(loss, taught.attention)
    assert gradient[0].argmin() == 1  # where the box covers most, attention is wanted most
    assert (gradient[1] == 0).all()
    unsupervised, _, _ = caption_loss(taught, phrases=phrases, coverages=coverages)
    assert unsupervised.item() == pytest.approx(math.log(7))


def test_supervision_pulls_attention_that_misses_its_box() -> None:
    scores = torch.tensor([[0.0, 40.0], [0.0, 0.0]], dtype=torch.float64).requires_grad_()
    taught = replace(teacher([[0.5, 0.5], [0.5, 0.5]]), attention=scores.softmax(-1))
    phrases = torch.tensor([[[-1, 0], [-1, -1], [-1, -1]]])
    loss, _, _ = caption_loss(taught, attention_supervision=1.0, phrases=phrases, coverages=torch.tensor([[1.0, 0.0]]))
    assert math.isfinite(loss.item())
    taught = replace(taught, attention=(scores / 10).softmax(-1))
    loss, _, _ = caption_loss(taught, attention_supervision=1.0, phrases=phrases, coverages=torch.tensor([[1.0, 0.0]]))
    (gradient,) = torch.autograd.grad(loss, scores)
    assert gradient[0, 0] < 0 < gradient[0, 1]
