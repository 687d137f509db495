"""The cross-entropy in one pass against PyTorch's own."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from captionlens.network.loss import ROWS, smoothed_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, ROWS, 2 * ROWS + 3])
def test_losses_and_gradient_are_those_of_pytorch(count: int, smoothing: float) -> None:
    torch.manual_seed(0)
    logits = (5 * torch.randn(count, 17, dtype=torch.float64)).requires_grad_()
    targets = torch.randint(17, (count,))
    loss, plain = smoothed_cross_entropy(logits, targets, smoothing)
    expected = cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(plain, cross_entropy(logits, targets).detach(), rtol=0, atol=1e-12)
    assert not plain.requires_grad
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    (wanted,) = torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-12)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    torch.manual_seed(0)
    logits = (5 * torch.randn(300, 500)).bfloat16().requires_grad_()
    targets = torch.randint(500, (300,))
    loss, _ = smoothed_cross_entropy(logits, targets, 0.1)
    expected = cross_entropy(logits.float(), targets, label_smoothing=0.1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    (wanted,) = torch.autograd.grad(expected, logits)
    # Each rounded to 8 bits, ours twice: three errors of at most 2^-9.
    torch.testing.assert_close(gradient, wanted, rtol=2**-7, atol=1e-9)
