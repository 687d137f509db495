"""Teacher forcing through time: attention and GRU over all words of a batch, with a backward pass by hand.

Automatic differentiation keeps the tanh of every word, place and attention unit for the backward pass, and
makes each weight's gradient in as many small products as there are words in a caption. `unroll` keeps only
what is small, computes the attention's inside a second time on the way back, and makes each weight's gradient
in one product over all words. `unroll_plainly` says the same in plain autograd; tests hold one to the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

try:
    from captionlens.network import kernels
except ImportError:  # Numba comes a little later than each new Python
    kernels = None  # type: ignore[assignment]

_Word = Callable[..., tuple[Tensor, Tensor, Tensor]]  # as `_word`


@dataclass(frozen=True, slots=True)
class Words:
    """The N words of a batch in the order in which they are computed: by time, photograph, slot.

    `slots[t]` are the caption slots (photograph times C plus caption) that have a word at time t, and
    `kept[t]` says which words of time t - 1 these follow; `flat` (N,) numbers all words by time * P C + slot.
    `starts` (T P + 1,) is where the words of each time and photograph begin, and N.
    """

    photographs: int
    captions: int
    there: Tensor  # (T, P, C)
    flat: Tensor
    slots: tuple[Tensor, ...]
    kept: tuple[Tensor, ...]
    starts: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> "Words":
        """The words of captions of these lengths (P, C)."""
        photographs, captions = lengths.shape
        times = torch.arange(int(lengths.max()), device=lengths.device)
        there = lengths > times[:, None, None]  # (T, P, C)
        flat = there.flatten().nonzero().squeeze(1)
        time, slot = flat // lengths.numel(), flat % lengths.numel()
        place = there.flatten(1).cumsum(1) - 1  # (T, P C) number among the words of its time
        kept = place[(time - 1).clamp(min=0), slot]
        counts = there.sum((1, 2)).tolist()
        starts = nn.functional.pad(there.sum(-1).flatten().cumsum(0), (1, 0))
        return cls(
            photographs,
            captions,
            there,
            flat,
            torch.split(slot, counts),
            torch.split(kept, counts),
            starts,
        )

    def padded(self, rows: Tensor) -> Tensor:
        """One row a word (N, X) to (T, P, C, X), zero where there is no word."""
        shape = (*self.there.shape, rows.shape[-1])
        return rows.new_zeros(self.there.numel(), rows.shape[-1]).index_copy(0, self.flat, rows).view(shape)


def unroll_plainly(
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
    word: _Word | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """States (R, H), contexts (R, M) and attention (N, L) of all words, in plain autograd.

    Args:
        words: which N words there are; rows from N to R only fill up, with zeros in the results.
        first: the initial states (P, 1, H).
        memory: encoded places (P, L, M).
        keys: the places through the attention's memory layer (P, L, A).
        from_words: what the words before give to the cell (R, 3H), its bias included, or to the query and the cell
            (R, A + 3H).
        score: the attention's score weights (A,).
        state_weight, state_bias: the layers that read the state, stacked: the attention's query (A), the
            cell (3H) and, if the context is gated, the gate (M).
        context_weight: of the context into the cell (3H, M).
        word: does what `_word` does.
    """
    word = word or _word
    state = first.expand(-1, words.captions, -1).flatten(0, 1)[words.slots[0]]
    results = []
    begin = 0
    for time, slots in enumerate(words.slots):
        if time:
            state = state[words.kept[time]]
        from_word = from_words[begin : begin + len(slots)]
        photograph = slots // words.captions
        places = memory[photograph], keys[photograph]
        results.append(word(state, from_word, *places, score, state_weight, state_bias, context_weight))
        state = results[-1][0]
        begin += len(slots)
    states, contexts, alphas = (torch.cat(parts) for parts in zip(*results, strict=True))
    fill = (0, 0, 0, len(from_words) - begin)
    return nn.functional.pad(states, fill), nn.functional.pad(contexts, fill), alphas


def _word(
    state: Tensor,
    from_word: Tensor,
    memory: Tensor,
    keys: Tensor,
    score: Tensor,
    state_weight: Tensor,
    state_bias: Tensor,
    context_weight: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One word further: state (n, H), context (n, M) and attention (n, L); memory (n, L, M) and keys (n, L, A)."""
    units, size = state.shape[-1], keys.shape[-1]
    from_state = nn.functional.linear(state, state_weight, state_bias)
    query, recurrent, gate = torch.split(from_state, [size, 3 * units, state_weight.shape[0] - size - 3 * units], -1)
    if from_word.shape[-1] > 3 * units:
        query = query + from_word[:, :size]
    hidden = torch.tanh(keys + query[:, None])  # (n, L, A)
    alpha = (hidden @ score.to(hidden.dtype)).to(state.dtype).softmax(-1)  # (n, L)
    context = torch.bmm(alpha[:, None].to(memory.dtype), memory).squeeze(1)  # (n, M)
    if gate.shape[-1]:
        context = torch.sigmoid(gate) * context
    moved = nn.functional.linear(context, context_weight) + from_word[:, -3 * units :]
    return next_state(moved, recurrent, state), context, alpha


def next_state(inputs: Tensor, from_state: Tensor, state: Tensor) -> Tensor:
    """The next state of a gated recurrent unit (..., H).

    Args:
        inputs: context and embedding through their layers, summed (..., 3H).
        from_state: the state through its layer (..., 3H).
        state: (..., H).
    """
    reset_in, update_in, new_in = inputs.chunk(3, -1)
    reset_state, update_state, new_state = from_state.chunk(3, -1)
    # The state stays in single precision under autocast: rounding would add up over the words.
    update = torch.sigmoid(update_in + update_state).to(state.dtype)
    candidate = torch.tanh(new_in + torch.sigmoid(reset_in + reset_state) * new_state).to(state.dtype)
    return candidate + update * (state - candidate)


@cache
def _compiled_word() -> _Word:
    """`_word` in fewer and larger pieces by PyTorch's compiler, or as it is where that cannot work."""
    torch._dynamo.config.suppress_errors = True  # no Triton, say
    compiled: _Word = torch.compile(_word, dynamic=True)
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
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `unroll_plainly`, several times faster on a processor. Cannot be differentiated twice there.

    On a card, PyTorch's compiler joins what computes a word; `TORCHDYNAMO_DISABLE=1` in the environment leaves it out.

    Under autocast the products are in its type; the states, the inside of the attention and all sums over
    time are in the type of `first`.
    """
    values = (first, memory, keys, from_words, score, state_weight, state_bias, context_weight)
    kind = first.device.type
    if kernels is None or kind != "cpu":
        return unroll_plainly(words, *values, word=_compiled_word() if kind == "cuda" else None)
    product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else first.dtype
    with torch.autocast(kind, enabled=False):
        states, contexts, alphas = _Unroll.apply(words, product, *values)  # type: ignore[no-untyped-call]
    return states, contexts, alphas


class _Unroll(torch.autograd.Function):
    """See `unroll`. Type `product` is that of the large products, all the rest is in that of `first`."""

    @staticmethod
    def forward(
        ctx: Any,
        words: Words,
        product: torch.dtype,
        first: Tensor,
        memory: Tensor,
        keys: Tensor,
        from_words: Tensor,
        score: Tensor,
        state_weight: Tensor,
        state_bias: Tensor,
        context_weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
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
        size, units, width = keys.shape[2], first.shape[-1], memory.shape[2]
        gated = state_weight.shape[0] > size + 3 * units

        keys = keys.clamp(-40, 40).mul_(2).exp_()  # see `kernels.look`
        before = _filled(first, total, count, units)  # the states the words start from
        states, cell = _filled(first, total, count, units), first.new_empty(count, 4 * units)
        alphas = first.new_empty(count, keys.shape[1])
        queries = first.new_empty(count, size)
        contexts = _filled(first, total, count, width)
        looked = torch.empty_like(contexts) if gated else contexts  # before the gate
        gates = first.new_empty(count, width if gated else 0)
        # What the large products read, for the weights' gradients too.
        narrow_before = before if product == wide else _filled(before, total, count, units, product)
        narrow_contexts = contexts if product == wide else _filled(contexts, total, count, width, product)
        slots = words.flat % (words.photographs * words.captions)
        arrays = [tensor.detach().numpy() for tensor in (
            slots // words.captions, keys, memory, score, from_words, queries, alphas, looked, gates, contexts
        )]  # fmt: skip
        photographs, keys_, memory_, score_, from_words_, *results = arrays

        begin = 0
        previous = first[words.slots[0] // words.captions, 0]
        for time, here in enumerate(words.slots):
            rows = slice(begin, begin + len(here))
            if time:
                previous = states[begin - len(words.slots[time - 1]) : begin].index_select(0, words.kept[time])
            before[rows] = previous
            narrow_before[rows] = previous
            from_state = torch.addmm(state_bias, narrow_before[rows], state_weight.t()).to(wide).numpy()
            kernels.look(begin, photographs, keys_, memory_, score_, from_state, from_words_, *results)
            if product != wide:
                narrow_contexts[rows] = contexts[rows]
            moved = torch.mm(narrow_contexts[rows], context_weight.t()).to(wide).numpy()
            kernels.move(begin, size, moved, from_state, from_words_, before.numpy(), cell.numpy(), states.numpy())
            begin = rows.stop

        ctx.save_for_backward(
            memory, keys, score, state_weight, context_weight,
            before, narrow_before, queries, alphas, looked, gates, narrow_contexts, cell,
        )  # fmt: skip
        ctx.asked = from_words.shape[-1] > 3 * units  # the word takes part in the query
        return states, contexts, alphas

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_contexts: Tensor, d_alphas: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):
            return _Unroll._backward(ctx, d_states, d_contexts, d_alphas)

    @staticmethod
    def _backward(ctx: Any, d_states: Tensor, d_contexts: Tensor, d_alphas: Tensor) -> tuple[Tensor | None, ...]:
        """Back in time for what must flow from word to word; then each weight in one product."""
        (
            memory, keys, score, state_weight, context_weight,
            before, narrow_before, queries, alphas, looked, gates, narrow_contexts, cell,
        ) = ctx.saved_tensors  # fmt: skip
        words, product, wide = ctx.words, ctx.product, before.dtype
        count, total = len(words.flat), len(before)
        units, size = before.shape[1], keys.shape[2]
        d_states = d_states.clone(memory_format=torch.contiguous_format)  # grows by what later words give back
        d_inputs = _filled(before, total, count, 3 * units)
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
        inside = [tensor.numpy() for tensor in (keys, memory, score, queries, alphas, looked, gates)]
        outside = [tensor.contiguous().numpy() for tensor in (d_contexts, d_alphas)]
        results = [tensor.numpy() for tensor in (d_from_state, d_looked, d_keys, d_scores)]
        starts = words.starts.numpy()

        end = count
        for time in reversed(range(len(words.slots))):
            begin = end - len(words.slots[time])
            rows = slice(begin, end)
            kernels.move_back(begin, end, size, before_, cell_, d_states_, d_inputs_, d_from_state_)
            if product != wide:
                narrow_inputs[rows] = d_inputs[rows]
            d_context = torch.mm(narrow_inputs[rows], context_weight).to(wide).numpy()
            of_time = starts[time * words.photographs : (time + 1) * words.photographs + 1]
            kernels.look_back(of_time, *inside, d_context, *outside, *results)
            if product != wide:
                narrow_from_state[rows] = d_from_state[rows]
            carried = torch.mm(narrow_from_state[rows], state_weight).to(wide)
            if time:
                kept = words.kept[time] + (begin - len(words.slots[time - 1]))
                kernels.carry_back(begin, kept.numpy(), cell_, carried.numpy(), d_states_)
            end = begin

        update = cell[: len(carried), units : 2 * units]
        d_first = before.new_zeros(words.photographs, units)
        photograph = words.slots[0] // words.captions
        d_first.index_add_(0, photograph, torch.addcmul(carried, d_states[: len(carried)], update))
        by_photograph = (
            words.padded(rows).transpose(0, 1).flatten(1, 2) for rows in (alphas.to(product), d_looked.to(product))
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
        return None, None, d_first[:, None], *others


def _filled(like: Tensor, rows: int, count: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """Memory for (rows, width) numbers, zero after the first `count` rows."""
    result = like.new_empty(rows, width, dtype=dtype)
    result[count:] = 0
    return result
