"""Cross-entropy over a vocabulary, with label smoothing and its gradient in one pass."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 64  # words worked on at a time: their logits stay in a processor's cache


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
        smoothed, plain = _CrossEntropy.apply(logits, targets, smoothing)  # type: ignore[no-untyped-call]
    return smoothed, plain


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        gradient = torch.empty_like(logits)
        losses = logits.new_zeros(2, dtype=wide)  # of the right words, and of all words evenly
        rows = ROWS if logits.device.type == "cpu" else max(1, len(logits))
        for part, target, result in zip(
            torch.split(logits, rows), torch.split(targets, rows), torch.split(gradient, rows), strict=True
        ):
            log_probs = part.to(wide).log_softmax(-1)
            right = target[:, None]
            losses[0] -= log_probs.gather(1, right).sum()
            if smoothing:
                losses[1] -= log_probs.sum() / logits.shape[1]
            # The gradient: the probabilities less the smoothed targets.
            probs = log_probs.exp_()
            if smoothing:
                probs -= smoothing / logits.shape[1]
            probs.scatter_add_(1, right, probs.new_full(right.shape, smoothing - 1))
            result.copy_(probs)
        losses /= len(logits)
        ctx.save_for_backward(gradient)
        plain = losses[0].clone()
        ctx.mark_non_differentiable(plain)
        return (1 - smoothing) * losses[0] + smoothing * losses[1], plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (d_loss / len(gradient)), None, None
