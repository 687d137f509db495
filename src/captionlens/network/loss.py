"""Cross-entropy over a vocabulary, with label smoothing and its gradient in one pass."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

try:
    from captionlens.network import kernels
except ImportError:  # Numba comes a little later than each new Python
    kernels = None  # type: ignore[assignment]


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Mean over N words of the label-smoothed cross-entropy, and of the plain one, which has no gradient.

    Equal to two calls of `torch.nn.functional.cross_entropy`, which take several passes over (N, V) each.
    Label smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    Args:
        logits: (N, V), of any floating type; the work is done in single precision at least.
        targets: (N,) numbers of the right words.
        smoothing: share of a target spread evenly over all V words, from 0 to 1.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if kernels is None or logits.device.type != "cpu" or logits.dtype == torch.float16:
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            plain = cross_entropy(logits.detach(), targets)
            return cross_entropy(logits, targets, label_smoothing=smoothing), plain
        smoothed, plain = _CrossEntropy.apply(logits, targets, smoothing)  # type: ignore[no-untyped-call]
    return smoothed, plain


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        logits = logits.detach().contiguous()
        gradient = torch.empty_like(logits)
        losses = logits.new_empty(len(logits), 2, dtype=wide)
        highest = logits.amax(-1).to(wide).numpy()
        weight = highest.dtype.type(smoothing)
        kernels.cross_entropy(_numbers(logits), highest, targets.numpy(), weight, losses.numpy(), _numbers(gradient))
        ctx.save_for_backward(gradient)
        right, even = losses.mean(0)
        ctx.mark_non_differentiable(right)
        return (1 - smoothing) * right + smoothing * even, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        # Nearly always 1; a pass over (N, V) saved.
        return gradient if d_loss == 1 else gradient * d_loss.to(gradient.dtype), None, None


def _numbers(tensor: Tensor) -> Any:
    """A tensor as a NumPy array; of bfloat16, which NumPy lacks, the bits."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
