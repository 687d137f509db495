"""Teacher forcing on processors: compiled loops over time, with a hand-written backward pass.

Automatic differentiation saves the tanh of every word, place and attention unit for the backward pass, and computes
each weight's gradient as one small product per time step. This saves only the small tensors, recomputes the inside of
the attention in the backward pass, and computes each weight's gradient as one product over all words.
`unroll_by_autograd` is the same in PyTorch's operations; tests compare the two.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from captionlens.network import compiled_loops
from captionlens.network.decoder import DecoderWeights
from captionlens.network.fused_backward import BackwardPass
from captionlens.network.fused_forward import ForwardPass, Saved, Tensors
from captionlens.network.words import Words


def fused_unroll(
    words: Words,
    first: Tensor,
    memory: Tensor,
    keys: Tensor,
    from_words: Tensor,
    weights: DecoderWeights,
    draws: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states (R, H), contexts (R, M), attention (N, L) and, with `draws`, chosen places (N,), else (0,).

    Args:
        words, first, memory, keys, from_words, weights: as in `unroll`; with one head and no sentinel.
        draws: of each word (N,) with hard attention, as in `attention_kernels.select_places`.
    """
    product = compiled_loops.product_type(first)
    tensors = Tensors(
        first, memory, keys, from_words,
        weights.score, weights.state_weight, weights.state_bias, weights.context_weight,
    )  # fmt: skip
    with torch.autocast("cpu", enabled=False):
        results: tuple[Tensor, Tensor, Tensor, Tensor] = _Unroll.apply(words, product, draws, *tensors)  # type: ignore[no-untyped-call]
    return results


class _Unroll(torch.autograd.Function):
    """The autograd function of `fused_unroll`."""

    @staticmethod
    def forward(
        ctx: Any, words: Words, product: torch.dtype, draws: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ctx.words, ctx.product = words, product
        ctx.types = [tensor.dtype for tensor in tensors]
        forward = ForwardPass(words, product, draws, Tensors(*tensors))
        forward.run()
        ctx.word_query = forward.word_query
        ctx.save_for_backward(*forward.saved)
        ctx.mark_non_differentiable(forward.saved.chosen)
        return forward.states, forward.contexts, forward.saved.alphas, forward.saved.chosen

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_states: Tensor, d_contexts: Tensor, d_alphas: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            backward = BackwardPass(ctx.words, ctx.product, Saved(*ctx.saved_tensors), d_states, d_contexts, d_alphas)
            gradients = backward.run(ctx.word_query)
        return None, None, None, *(gradient.to(kind) for gradient, kind in zip(gradients, ctx.types, strict=True))
