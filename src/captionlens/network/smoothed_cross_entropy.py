"""Cross-entropy over the vocabulary with smoothed or soft targets, and its gradient in the same pass."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, linear

from captionlens.network import compiled_loops, cross_entropy_kernels


class SoftTargets(NamedTuple):
    """Distributions over words as targets: K words of each of N words' targets, int64 (N, K), and their masses (N, K).

    The masses of a row sum to at most 1; the rest is the mass of the true word.
    """

    words: Tensor
    masses: Tensor


class CrossEntropies(NamedTuple):
    """Cross-entropies of N words, in nats: the mean with smoothed or soft targets, and without gradient the mean and
    each word's value (N,) for the true words alone."""

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
    soft: SoftTargets | None = None,
) -> CrossEntropies:
    """Compute a linear layer's logits and the cross-entropies of N words.

    Without soft targets equal to the layer and two calls of `torch.nn.functional.cross_entropy`, which take several
    passes over (N, V) each; here the gradient overwrites the logits as they are read.
    Label smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    Args:
        hidden: input of the layer (R, X); rows from N to R are padding without a target.
        weight: of the layer (V, X).
        bias: of the layer (V,).
        targets: (N,) indices of the true words.
        smoothing: probability mass of a target that is spread evenly over all V words, from 0 to 1.
        importance: factor of each word's term in the smoothed mean (N,), of any sign; the mean still divides by N.
            None: 1 for all.
        soft: targets beside the true words; these, smoothed, keep the mass that the soft ones leave. None: all of it.
    """
    kind = hidden.device.type
    product = compiled_loops.product_type(hidden)
    if not compiled_loops.serve(hidden):
        logits = linear(hidden[: len(targets)], weight, bias)
        with torch.autocast(kind, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            words = cross_entropy(logits.detach(), targets, reduction="none")
            if importance is None and soft is None:
                smoothed = cross_entropy(logits, targets, label_smoothing=smoothing)
                return CrossEntropies(smoothed, words.mean(), words)
            losses = cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
            if soft is not None:
                masses = soft.masses.to(losses.dtype)
                of_soft = -(masses * logits.log_softmax(-1).gather(1, soft.words)).sum(1)
                losses = (1 - masses.sum(1)) * losses + of_soft
            if importance is not None:
                losses = importance.to(losses.dtype) * losses
            return CrossEntropies(losses.mean(), words.mean(), words)
    with torch.autocast(kind, enabled=False):
        return CrossEntropies(
            *_CrossEntropy.apply(  # type: ignore[no-untyped-call]
                product, hidden, weight, bias, targets, smoothing, importance, soft
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
        soft: SoftTargets | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        wide = torch.promote_types(product, torch.float32)
        ctx.types = hidden.dtype, weight.dtype, bias.dtype
        hidden, weight = hidden.detach().to(product), weight.detach().to(product)
        logits = torch.mm(hidden, weight.t())  # (R, V)
        losses = logits.new_empty(len(targets), 3, dtype=wide)
        numbers = logits.view(torch.uint16) if product == torch.bfloat16 else logits  # NumPy has no bfloat16
        bias_ = bias.detach().to(wide).numpy()
        factors = losses.new_empty(0) if importance is None else importance.detach().to(wide)
        words = targets.new_empty(len(targets), 0) if soft is None else soft.words
        masses = losses.new_empty(len(targets), 0) if soft is None else soft.masses.detach().to(wide)
        cross_entropy_kernels.cross_entropy(
            numbers.numpy(),
            bias_,
            targets.numpy(),
            factors.numpy(),
            words.numpy(),
            masses.numpy(),
            bias_.dtype.type(smoothing),
            losses.numpy(),
        )
        ctx.save_for_backward(hidden, weight, logits)  # by now the gradient
        right, even, _ = losses.mean(0)
        of_words = losses[:, 0].clone()
        ctx.mark_non_differentiable(right, of_words)
        if soft is None:
            if importance is None:
                return (1 - smoothing) * right + smoothing * even, right, of_words
            weighted = factors @ losses / len(targets)  # (3,)
            return (1 - smoothing) * weighted[0] + smoothing * weighted[1], right, of_words
        of_true = (1 - smoothing) * losses[:, 0] + smoothing * losses[:, 1]
        each = (1 - masses.sum(1)) * of_true + losses[:, 2]
        return (each if importance is None else factors * each).mean(), right, of_words

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
        return None, *(value.to(kind) for value, kind in zip(gradients, ctx.types, strict=True)), None, None, None, None
