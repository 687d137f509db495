"""Label-smoothed cross-entropy over the vocabulary, with its gradient in the same pass."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, linear

from captionlens.network import compiled_loops, cross_entropy_kernels


class CrossEntropies(NamedTuple):
    """Cross-entropies of N words, in nats: the label-smoothed mean, and without gradient the unsmoothed mean and each
    word's unsmoothed value (N,)."""

    smoothed: Tensor
    plain: Tensor
    of_words: Tensor


def smoothed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    smoothing: float,
    importance: Tensor | None = None,
) -> CrossEntropies:
    """Compute a linear layer's logits and the cross-entropies of N words.

    Equal to the layer and two calls of `torch.nn.functional.cross_entropy`, which take several passes over (N, V)
    each; here the gradient overwrites the logits as they are read.
    Label smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    Args:
        hidden: input of the layer (R, X); rows from N to R are padding without a target.
        weight: of the layer (V, X).
        bias: of the layer (V,).
        targets: (N,) indices of the true words.
        smoothing: probability mass of a target that is spread evenly over all V words, from 0 to 1.
        importance: factor of each word's term in the smoothed mean (N,), of any sign; the mean still divides by N.
            None: 1 for all.
    """
    kind = hidden.device.type
    product = compiled_loops.product_type(hidden)
    if not compiled_loops.serve(hidden):
        logits = linear(hidden[: len(targets)], weight, bias)
        with torch.autocast(kind, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            words = cross_entropy(logits.detach(), targets, reduction="none")
            if importance is None:
                smoothed = cross_entropy(logits, targets, label_smoothing=smoothing)
                return CrossEntropies(smoothed, words.mean(), words)
            losses = cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
            return CrossEntropies((importance.to(losses.dtype) * losses).mean(), words.mean(), words)
    with torch.autocast(kind, enabled=False):
        return CrossEntropies(
            *_CrossEntropy.apply(  # type: ignore[no-untyped-call]
                product, hidden, weight, bias, targets, smoothing, importance
            )
        )


class _CrossEntropy(torch.autograd.Function):
    """Autograd function of `smoothed_cross_entropy`: products in type `product`, sums in single precision or more."""

    @staticmethod
    def forward(
        ctx: Any,
        product: torch.dtype,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        importance: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(product, torch.float32)
        ctx.types = hidden.dtype, weight.dtype, bias.dtype
        hidden, weight = hidden.detach().to(product), weight.detach().to(product)
        logits = torch.mm(hidden, weight.t())  # (R, V)
        losses = logits.new_empty(len(targets), 2, dtype=wide)
        numbers = logits.view(torch.uint16) if product == torch.bfloat16 else logits  # NumPy has no bfloat16
        bias_ = bias.detach().to(wide).numpy()
        factors = losses.new_empty(0) if importance is None else importance.detach().to(wide)
        cross_entropy_kernels.cross_entropy(
            numbers.numpy(), bias_, targets.numpy(), factors.numpy(), bias_.dtype.type(smoothing), losses.numpy()
        )
        ctx.save_for_backward(hidden, weight, logits)  # by now the gradient
        right, even = losses.mean(0)
        of_words = losses[:, 0]
        ctx.mark_non_differentiable(right, of_words)
        if importance is None:
            return (1 - smoothing) * right + smoothing * even, right, of_words
        weighted = factors @ losses / len(targets)  # (2,)
        return (1 - smoothing) * weighted[0] + smoothing * weighted[1], right, of_words

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, gradient = ctx.saved_tensors
        if d_loss != 1:  # it is nearly always 1, which saves a pass over (R, V)
            gradient = gradient * d_loss.to(gradient.dtype)
        gradients = (
            torch.mm(gradient, weight),
            torch.mm(gradient.t(), hidden),
            torch.mm(gradient.new_ones(8, len(gradient)), gradient)[0],  # a sum of rows, several times faster
        )
        return None, *(value.to(kind) for value, kind in zip(gradients, ctx.types, strict=True)), None, None, None
