"""Teacher forcing through time: attention and the cell over all words of a batch, with a backward pass by hand.

Automatic differentiation keeps the tanh of every word, place and attention unit for the backward pass, and
makes each weight's gradient in as many small products as there are words in a caption. `unroll` keeps only
what is small, computes the attention's inside a second time on the way back, and makes each weight's gradient
in one product over all words. `unroll_plainly` says the same in plain autograd; tests hold one to the other.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from captionlens.network.attention import hard_weights
from captionlens.network.plain import Advance, advance, unroll_plainly
from captionlens.network.words import Words

try:
    from captionlens.network import cell_kernels, kernels
except ImportError:  # Numba comes a little later than each new Python
    kernels = None  # type: ignore[assignment]


@cache
def _compiled_word() -> Advance:
    """`advance` in fewer and larger pieces by PyTorch's compiler, or as it is where that cannot work."""
    torch._dynamo.config.suppress_errors = True  # no Triton, say
    compiled: Advance = torch.compile(advance, dynamic=True)
    return compiled


def unroll(
    words: Words,
    first: Tensor,
    memory: Tensor,
    keys: Tensor,
    from_words: Tensor,
    score: Tensor,
    state_weight: Tensor,
    state_bias: Tensor,
    context_weight: Tensor,
    *,
    hard: bool = False,
    draws: Tensor | None = None,
    heads: int = 1,
    sentinel: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The same as `unroll_plainly`, several times faster on a processor. Cannot be differentiated twice there.

    Several heads and the sentinel are left to plain autograd everywhere. On a card, PyTorch's compiler joins what
    computes a word; `TORCHDYNAMO_DISABLE=1` in the environment leaves it out.

    Under autocast the products are in its type; the states, the inside of the attention and all sums over
    time are in the type of `first`.
    """
    values = (first, memory, keys, from_words, score, state_weight, state_bias, context_weight)
    kind = first.device.type
    if kernels is None or kind != "cpu" or heads > 1 or sentinel is not None:
        word = _compiled_word() if kind == "cuda" else advance
        return unroll_plainly(words, *values, hard=hard, draws=draws, heads=heads, sentinel=sentinel, word=word)
    product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else first.dtype
    if hard and draws is None:
        draws = first.new_ones(len(words.flat))  # the strongest place of each
    with torch.autocast(kind, enabled=False):
        states, contexts, alphas, chosen = _Unroll.apply(words, product, draws, *values)  # type: ignore[no-untyped-call]
    return states, contexts, alphas, chosen if hard else None


class _Unroll(torch.autograd.Function):
    """See `unroll`. Type `product` is that of the large products, all the rest is in that of `first`."""

    @staticmethod
    def forward(
        ctx: Any,
        words: Words,
        product: torch.dtype,
        draws: Tensor | None,
        first: Tensor,
        memory: Tensor,
        keys: Tensor,
        from_words: Tensor,
        score: Tensor,
        state_weight: Tensor,
        state_bias: Tensor,
        context_weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = first.dtype
        ctx.words, ctx.product = words, product
        # In the order of the gradients.
        ctx.types = [tensor.dtype for tensor in (memory, keys, from_words, score, state_weight, state_bias)]
        ctx.types.append(context_weight.dtype)
        memory, keys, from_words, score = (tensor.to(wide).contiguous() for tensor in (memory, keys, from_words, score))
        state_weight, state_bias, context_weight = (
            tensor.to(product) for tensor in (state_weight, state_bias, context_weight)
        )
        count, total = len(words.flat), len(from_words)
        size, units, width = keys.shape[2], state_weight.shape[1], memory.shape[2]
        gate_width = state_weight.shape[0] - size - context_weight.shape[0]  # M, 1 or 0
        lstm = context_weight.shape[0] == 4 * units

        keys = keys.clamp(-40, 40).mul_(2).exp_()  # see `kernels.look`
        before = _filled(first, total, count, units)  # the states the words start from
        states, cell = _filled(first, total, count, units), first.new_empty(count, 4 * units)
        remembered = first.new_empty(2, count if lstm else 0, units)  # an LSTM's memory cells before and after
        alphas = first.new_empty(count, keys.shape[1])
        queries = first.new_empty(count, size)
        contexts = _filled(first, total, count, width)
        looked = torch.empty_like(contexts) if gate_width else contexts  # before the gate
        gates = first.new_empty(count, gate_width)
        chosen = torch.empty(0 if draws is None else count, dtype=torch.long)
        # What the large products read, for the weights' gradients too.
        narrow_before = before if product == wide else _filled(before, total, count, units, product)
        narrow_contexts = contexts if product == wide else _filled(contexts, total, count, width, product)
        slots = words.flat % (words.photographs * words.captions)
        arrays = [tensor.detach().numpy() for tensor in (
            slots // words.captions, keys, memory, score, from_words, queries, alphas, looked, gates, contexts
        )]  # fmt: skip
        photographs, keys_, memory_, score_, from_words_, *results = arrays
        cells_before, cells = remembered.numpy()

        begin = 0
        previous, cells_previous = torch.split(
            first[words.slots[0] // words.captions, 0], [units, first.shape[-1] - units], -1
        )
        for time, here in enumerate(words.slots):
            rows = slice(begin, begin + len(here))
            if time:
                of_before = slice(begin - len(words.slots[time - 1]), begin)
                previous = states[of_before].index_select(0, words.kept[time])
                if lstm:
                    cells_previous = remembered[1, of_before].index_select(0, words.kept[time])
            before[rows] = previous
            narrow_before[rows] = previous
            if lstm:
                remembered[0, rows] = cells_previous
            from_state = torch.addmm(state_bias, narrow_before[rows], state_weight.t()).to(wide).numpy()
            kernels.look(begin, photographs, keys_, memory_, score_, from_state, from_words_, *results)
            if draws is not None:
                _, *of_pick = results
                alphas_, looked_, gates_, contexts_ = of_pick
                kernels.pick(
                    begin, rows.stop, photographs, memory_, draws.numpy(), alphas_, gates_, chosen.numpy(),
                    looked_, contexts_,
                )  # fmt: skip
            if product != wide:
                narrow_contexts[rows] = contexts[rows]
            moved = torch.mm(narrow_contexts[rows], context_weight.t()).to(wide).numpy()
            of_word = begin, size, moved, from_state, from_words_
            if lstm:
                cell_kernels.move_lstm(*of_word, cells_before, cell.numpy(), cells, states.numpy())
            else:
                cell_kernels.move(*of_word, before.numpy(), cell.numpy(), states.numpy())
            begin = rows.stop

        ctx.save_for_backward(
            memory, keys, score, state_weight, context_weight,
            before, narrow_before, queries, alphas, looked, gates, narrow_contexts, cell, remembered, chosen,
        )  # fmt: skip
        ctx.asked = from_words.shape[-1] > context_weight.shape[0]  # the word takes part in the query
        ctx.mark_non_differentiable(chosen)
        return states, contexts, alphas, chosen

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_states: Tensor, d_contexts: Tensor, d_alphas: Tensor, _: Tensor
    ) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _Unroll._backward(ctx, d_states, d_contexts, d_alphas)

    @staticmethod
    def _backward(ctx: Any, d_states: Tensor, d_contexts: Tensor, d_alphas: Tensor) -> tuple[Tensor | None, ...]:
        """Back in time for what must flow from word to word; then each weight in one product."""
        (
            memory, keys, score, state_weight, context_weight,
            before, narrow_before, queries, alphas, looked, gates, narrow_contexts, cell, remembered, chosen,
        ) = ctx.saved_tensors  # fmt: skip
        words, product, wide = ctx.words, ctx.product, before.dtype
        count, total = len(words.flat), len(before)
        units, size = before.shape[1], keys.shape[2]
        lstm = remembered.shape[1] > 0
        d_states = d_states.clone(memory_format=torch.contiguous_format)  # grows by what later words give back
        d_cells = torch.zeros_like(remembered[0])
        d_inputs = _filled(before, total, count, context_weight.shape[0])
        d_from_state = _filled(before, total, count, state_weight.shape[0])
        d_looked = looked.new_empty(count, looked.shape[1])
        d_keys = torch.zeros_like(keys)
        d_scores = keys.new_zeros(keys.shape[0], size)
        narrow_inputs, narrow_from_state = d_inputs, d_from_state
        if product != wide:
            narrow_inputs = _filled(d_inputs, total, count, d_inputs.shape[1], product)
            narrow_from_state = _filled(d_from_state, total, count, d_from_state.shape[1], product)
        before_, cell_, d_states_, d_inputs_, d_from_state_ = (
            tensor.numpy() for tensor in (before, cell, d_states, d_inputs, d_from_state)
        )
        one_gate = gates.shape[1] == 1
        if one_gate:
            d_contexts = d_contexts.clone(memory_format=torch.contiguous_format)  # is scaled in place
        wide_gates = gates[:, :0] if one_gate else gates
        inside = [tensor.numpy() for tensor in (keys, memory, score, queries, alphas, looked, wide_gates, chosen)]
        outside = [tensor.contiguous().numpy() for tensor in (d_contexts, d_alphas)]
        results = [tensor.numpy() for tensor in (d_from_state, d_looked, d_keys, d_scores)]
        starts = words.starts.numpy()
        (cells_before, cells), d_cells_ = remembered.numpy(), d_cells.numpy()

        end = count
        for time in reversed(range(len(words.slots))):
            begin = end - len(words.slots[time])
            rows = slice(begin, end)
            if lstm:
                cell_kernels.move_lstm_back(
                    begin, end, size, cells_before, cell_, cells, d_states_, d_cells_, d_inputs_, d_from_state_
                )
            else:
                cell_kernels.move_back(begin, end, size, before_, cell_, d_states_, d_inputs_, d_from_state_)
            if product != wide:
                narrow_inputs[rows] = d_inputs[rows]
            d_context = torch.mm(narrow_inputs[rows], context_weight).to(wide).numpy()
            if one_gate:
                kernels.gate_back(begin, gates.numpy(), looked.numpy(), d_context, outside[0], d_from_state_)
            of_time = starts[time * words.photographs : (time + 1) * words.photographs + 1]
            kernels.look_back(of_time, *inside, d_context, *outside, *results)
            if product != wide:
                narrow_from_state[rows] = d_from_state[rows]
            carried = torch.mm(narrow_from_state[rows], state_weight).to(wide)
            if time:
                kept = (words.kept[time] + (begin - len(words.slots[time - 1]))).numpy()
                if lstm:
                    cell_kernels.carry_lstm_back(begin, kept, cell_, carried.numpy(), d_states_, d_cells_)
                else:
                    cell_kernels.carry_back(begin, kept, cell_, carried.numpy(), d_states_)
            end = begin

        gate = cell[: len(carried), units : 2 * units]  # of update or forgetting
        if lstm:
            d_of_first = torch.cat([carried, d_cells[: len(carried)] * gate], -1)
        else:
            d_of_first = torch.addcmul(carried, d_states[: len(carried)], gate)
        d_first = before.new_zeros(words.photographs, d_of_first.shape[1])
        d_first.index_add_(0, words.slots[0] // words.captions, d_of_first)
        weights = hard_weights(alphas, chosen) if len(chosen) else alphas
        by_photograph = (
            words.padded(rows).transpose(0, 1).flatten(1, 2) for rows in (weights.to(product), d_looked.to(product))
        )
        alphas_there, d_looked_there = by_photograph
        d_memory = torch.bmm(alphas_there.transpose(1, 2), d_looked_there)
        d_from_words = torch.cat((d_from_state[:, :size], d_inputs), -1) if ctx.asked else d_inputs
        gradients = (
            d_memory,
            d_keys.mul_(4 * score),
            d_from_words,
            d_scores.sum(0).mul_(-2),
            torch.mm(narrow_from_state.t(), narrow_before),
            d_from_state.sum(0),
            torch.mm(narrow_inputs.t(), narrow_contexts),
        )
        others = (gradient.to(kind) for gradient, kind in zip(gradients, ctx.types, strict=True))
        return None, None, None, d_first[:, None], *others


def _filled(like: Tensor, rows: int, count: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """Memory for (rows, width) numbers, zero after the first `count` rows."""
    result = like.new_empty(rows, width, dtype=dtype)
    result[count:] = 0
    return result
