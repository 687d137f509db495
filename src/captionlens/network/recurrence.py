"""Teacher forcing through time: attention and GRU over all words of a batch, with a backward pass by hand.

Automatic differentiation keeps the tanh of every word, place and attention unit for the backward pass, and
makes each weight's gradient in as many small products as there are words in a caption. `unroll` keeps only
what is small, computes the attention's inside a second time on the way back, and makes each weight's gradient
in one product over all words. `unroll_plainly` says the same in plain autograd; tests hold one to the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Values inside the attention that are worked on at a time: what stays in a processor's cache, or what keeps
# a graphics card busy without filling its memory.
CACHED_VALUES = 1 << 18
DEVICE_VALUES = 1 << 26


@dataclass(frozen=True, slots=True)
class Words:
    """The N words of a batch in the order in which they are computed: by time, photograph, slot.

    `slots[t]` are the caption slots (photograph times C plus caption) that have a word at time t, and
    `kept[t]` says which words of time t - 1 these follow; `flat` (N,) numbers all words by time * P C + slot.
    `widths[t][p]` is how many slots, counted from the first, hold all of photograph p's words at time t.
    """

    photographs: int
    captions: int
    there: Tensor  # (T, P, C)
    flat: Tensor
    slots: tuple[Tensor, ...]
    kept: tuple[Tensor, ...]
    widths: list[list[int]]

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
        reach = (there * torch.arange(1, captions + 1, device=lengths.device)).amax(-1)  # (T, P)
        return cls(
            photographs,
            captions,
            there,
            flat,
            torch.split(slot, counts),
            torch.split(kept, counts),
            reach.tolist(),
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
) -> tuple[Tensor, Tensor, Tensor]:
    """States (N, H), contexts (N, M) and attention (N, L) of all words, in plain autograd.

    Args:
        words: which words there are.
        first: the initial states (P, 1, H).
        memory: encoded places (P, L, M).
        keys: the places through the attention's memory layer (P, L, A).
        from_words: what the words before give to the cell (N, 3H), its bias included, or to the query and the cell
            (N, A + 3H).
        score: the attention's score weights (A,).
        state_weight, state_bias: the layers that read the state, stacked: the attention's query (A), the
            cell (3H) and, if the context is gated, the gate (M).
        context_weight: of the context into the cell (3H, M).
    """
    units, size = first.shape[-1], keys.shape[-1]
    state = first.expand(-1, words.captions, -1).flatten(0, 1)[words.slots[0]]
    results = []
    begin = 0
    for time, slots in enumerate(words.slots):
        if time:
            state = state[words.kept[time]]
        photograph = slots // words.captions
        from_state = torch.nn.functional.linear(state, state_weight, state_bias)
        query, recurrent, gate = torch.split(
            from_state, [size, 3 * units, state_weight.shape[0] - size - 3 * units], -1
        )
        from_word = from_words[begin : begin + len(slots)]
        if from_word.shape[-1] > 3 * units:
            query = query + from_word[:, :size]
        hidden = torch.tanh(keys[photograph] + query[:, None])  # (n, L, A)
        alpha = (hidden @ score.to(hidden.dtype)).to(state.dtype).softmax(-1)  # (n, L)
        context = torch.bmm(alpha[:, None].to(memory.dtype), memory[photograph]).squeeze(1)  # (n, M)
        if gate.shape[-1]:
            context = torch.sigmoid(gate) * context
        moved = torch.nn.functional.linear(context, context_weight) + from_word[:, -3 * units :]
        reset_in, update_in, new_in = moved.chunk(3, -1)
        reset_state, update_state, new_state = recurrent.chunk(3, -1)
        update = torch.sigmoid(update_in + update_state).to(state.dtype)
        candidate = torch.tanh(new_in + torch.sigmoid(reset_in + reset_state) * new_state).to(state.dtype)
        state = candidate + update * (state - candidate)
        results.append((state, context, alpha))
        begin += len(slots)
    states, contexts, alphas = zip(*results, strict=True)
    return torch.cat(states), torch.cat(contexts), torch.cat(alphas)


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
    """The same as `unroll_plainly`, faster. Cannot be differentiated twice.

    Under autocast the products are in its type; the states, the inside of the attention and all sums over
    time are in the type of `first`.
    """
    kind = first.device.type
    product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else first.dtype
    with torch.autocast(kind, enabled=False):
        states, contexts, alphas = _Unroll.apply(  # type: ignore[no-untyped-call]
            words, product, first, memory, keys, from_words, score, state_weight, state_bias, context_weight
        )
    return states, contexts, alphas


class _Inside:
    """The inside of additive attention, v tanh(keys + query), photograph by photograph in the cache.

    With r = 1 / (1 + exp(2 keys) exp(2 query)) it is tanh = 1 - 2 r: the exponentials are taken once for each
    place and once for each word, and what is left for each pair of them is a product and a division, several
    times cheaper than a tanh. Where a product overflows, r is 0 as it should be.
    """

    def __init__(self, words: Words, keys: Tensor, score: Tensor) -> None:
        photographs, captions, (places, size) = words.photographs, words.captions, keys.shape[1:]
        self.words = words
        self.score = score  # (A,)
        self.keys = self._exponential(keys)  # (P, L, A)
        # Of the present time; what stands where there is no word is never used.
        self.queries = keys.new_zeros(photographs * captions, size)
        self.scores = keys.new_zeros(photographs * captions, places)
        self.d_scores = torch.zeros_like(self.scores)
        self.d_queries = torch.zeros_like(self.queries)
        # Summed over time, short of factors that `finish` applies once.
        self.d_keys = torch.zeros_like(keys)
        self.d_score = keys.new_zeros(1, size)
        limit = CACHED_VALUES if keys.device.type == "cpu" else DEVICE_VALUES
        self.block = min(max(1, limit // max(1, captions * places * size)), photographs)
        self.hidden = keys.new_empty(self.block * captions, places, size)
        self.one = keys.new_ones(())
        self._views: dict[tuple[int, int], tuple[Tensor, ...]] = {}

    @staticmethod
    def _exponential(values: Tensor) -> Tensor:
        # Infinity times zero would be no number; beyond 40 a tanh is 1 whatever a sane other summand.
        return values.clamp(-40, 40).mul_(2).exp_()

    def set_queries(self, slots: Tensor, query: Tensor) -> None:
        """Look with these queries (n, A) of these slots from now on."""
        self.queries.index_copy_(0, slots, self._exponential(query))

    def _blocks(self, time: int) -> Iterator[tuple[Tensor, ...]]:
        """A few photographs at a time: what `_part` gives, with r of this time, in a reused buffer."""
        for begin in range(0, self.words.photographs, self.block):
            width = max(self.words.widths[time][begin : begin + self.block])
            if not width:
                continue
            width = width if self.block == 1 else self.words.captions
            if (begin, width) not in self._views:
                self._views[begin, width] = self._part(begin, width)
            keys, queries, paired, *rest = self._views[begin, width]
            torch.addcmul(self.one, keys, queries, out=paired)
            paired.reciprocal_()
            yield paired, *rest

    def _part(self, begin: int, width: int) -> tuple[Tensor, ...]:
        """The views a block needs; they are kept, as making them costs as much as using them.

        They are keys (b, 1, L, A), queries (b, c, 1, A), r (b, c, L, A), (b c, L, A) and (b c L, A), scores
        (b c L,), and gradients: of scores (b c, L, A) and (1, b c L), queries (b c, A), keys (b, L, A).
        """
        keys = self.keys[begin : begin + self.block, None]
        slots = slice(begin * self.words.captions, (begin + len(keys) - 1) * self.words.captions + width)
        queries = self.queries[slots]
        hidden = self.hidden[: len(queries)]
        return (
            keys,
            queries.view(len(keys), width, 1, -1),
            hidden.view(len(keys), width, *hidden.shape[1:]),
            hidden,
            hidden.view(-1, hidden.shape[-1]),
            self.scores[slots].view(-1),
            self.d_scores[slots, :, None].expand_as(hidden),
            self.d_scores[slots].view(1, -1),
            self.d_queries[slots],
            self.d_keys[begin : begin + self.block],
        )

    def forward(self, time: int) -> None:
        """Scores from the queries, short of what cancels in the softmax."""
        weight = -2 * self.score
        for _, _, rows, scores, *_ in self._blocks(time):
            torch.mv(rows, weight, out=scores)

    def backward(self, time: int) -> None:
        """Gradients of the queries, short of 4 v, from those of the scores, zero where there is no word."""
        for paired, hidden, rows, _, d_scores, d_row, d_queries, d_keys in self._blocks(time):
            self.d_score.addmm_(d_row, rows)
            # The derivative of the tanh is 4 r (1 - r).
            torch.ops.aten.sigmoid_backward.grad_input(d_scores, hidden, grad_input=hidden)
            torch.sum(hidden, 1, out=d_queries)
            d_keys += paired.sum(1)

    def finish(self) -> tuple[Tensor, Tensor]:
        """Gradients of keys and score weights, after the last word."""
        # Scores' gradients sum to zero over the places: the 1 of tanh = 1 - 2 r gives nothing.
        return self.d_keys.mul_(4 * self.score), self.d_score.mul_(-2).squeeze(0)


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
        count, places, size = len(words.flat), keys.shape[1], keys.shape[2]
        units, context_size = first.shape[-1], memory.shape[-1]
        asked = from_words.shape[-1] > 3 * units  # the word takes part in the query
        gated = state_weight.shape[0] > size + 3 * units

        memory, state_weight, context_weight = (tensor.to(product) for tensor in (memory, state_weight, context_weight))
        state_bias = state_bias.to(product)
        inside = _Inside(words, keys.to(wide), score.to(wide))
        states = first.new_empty(count, units)
        before = first.new_empty(count, units)  # the states the words start from
        alphas = first.new_empty(count, places)
        contexts = first.new_empty(count, context_size)
        looked = first.new_empty(count, context_size) if gated else contexts  # before the gate
        gates = first.new_empty(count, context_size if gated else 0)
        queries = first.new_empty(count, size)
        cell = first.new_empty(count, 4 * units)  # reset, update, candidate, the state's part in the candidate
        padded = memory.new_zeros(words.photographs * words.captions, places)

        state = first[words.slots[0] // words.captions, 0]
        begin = 0
        for time, slots in enumerate(words.slots):
            rows = slice(begin, begin + len(slots))
            begin += len(slots)
            if time:
                state = state.index_select(0, words.kept[time])
            before[rows] = state
            from_state = torch.addmm(state_bias, state.to(product), state_weight.t()).to(wide)
            queries[rows] = from_state[:, :size]
            if asked:
                queries[rows] += from_words[rows, :size]
            inside.set_queries(slots, queries[rows])
            inside.forward(time)
            alpha = inside.scores.index_select(0, slots).softmax(-1)  # (n, L)
            alphas[rows] = alpha
            padded.index_copy_(0, slots, alpha.to(product))
            context = torch.bmm(padded.view(words.photographs, words.captions, places), memory)
            context = context.flatten(0, 1).index_select(0, slots)  # (n, M)
            looked[rows] = context
            if gated:
                gate = torch.sigmoid(from_state[:, size + 3 * units :])
                gates[rows] = gate
                contexts[rows] = context = gate * context
            moved = torch.mm(context.to(product), context_weight.t()) + from_words[rows, -3 * units :]  # (n, 3H)
            recurrent = from_state[:, size : size + 3 * units]
            both = torch.sigmoid(moved[:, : 2 * units] + recurrent[:, : 2 * units])
            reset, update = both.chunk(2, -1)
            new_state = recurrent[:, 2 * units :]
            candidate = torch.addcmul(moved[:, 2 * units :].to(wide), reset, new_state).tanh_()
            torch.cat((both, candidate, new_state), -1, out=cell[rows])
            state = torch.lerp(candidate, state, update)
            states[rows] = state

        ctx.save_for_backward(
            memory, keys, score, state_weight, context_weight,
            before, queries, alphas, looked, gates, contexts, cell,
        )  # fmt: skip
        ctx.asked = asked
        return states, contexts, alphas

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_contexts: Tensor, d_alphas: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(d_states.device.type, enabled=False):
            return _Unroll._backward(ctx, d_states, d_contexts, d_alphas)

    @staticmethod
    def _backward(ctx: Any, d_states: Tensor, d_contexts: Tensor, d_alphas: Tensor) -> tuple[Tensor | None, ...]:
        """Back in time for what must flow from word to word; then each weight in one product."""
        (
            memory, keys, score, state_weight, context_weight,
            before, queries, alphas, looked, gates, contexts, cell,
        ) = ctx.saved_tensors  # fmt: skip
        words, product, wide = ctx.words, ctx.product, before.dtype
        count, units = before.shape
        everyone = words.photographs * words.captions
        inside = _Inside(words, keys.to(wide), score.to(wide))
        d_inputs = before.new_empty(count, 3 * units)
        d_from_state = before.new_empty(count, state_weight.shape[0])
        d_looked = memory.new_empty(count, memory.shape[-1])
        padded_looked = memory.new_zeros(everyone, memory.shape[-1])
        memory_t = memory.transpose(1, 2)

        d_carried = before.new_zeros(0, units)
        end = count
        for time in reversed(range(len(words.slots))):
            slots = words.slots[time]
            rows = slice(end - len(slots), end)
            end -= len(slots)
            d_state = d_states[rows]
            if len(d_carried):
                d_state = d_state.index_add(0, words.kept[time + 1], d_carried)

            # The cell.
            reset, update, candidate, new_state = cell[rows].chunk(4, -1)
            d_candidate = d_state * (1 - update) * (1 - candidate * candidate)
            d_reset = d_candidate * new_state * reset * (1 - reset)
            d_update = d_state * (before[rows] - candidate) * update * (1 - update)
            torch.cat((d_reset, d_update, d_candidate), -1, out=d_inputs[rows])
            d_recurrent = (d_reset, d_update, d_candidate * reset)
            d_context = torch.mm(d_inputs[rows].to(product), context_weight) + d_contexts[rows]  # (n, M)
            if gates.shape[-1]:
                gate = gates[rows]
                d_gate = d_context * looked[rows] * gate * (1 - gate)
                d_context = d_context * gate
            else:
                d_gate = gates[rows]

            # The attention.
            d_looked[rows] = d_context
            padded_looked.index_copy_(0, slots, d_looked[rows])
            d_alpha = torch.bmm(padded_looked.view(words.photographs, words.captions, -1), memory_t)
            d_alpha = d_alpha.flatten(0, 1).index_select(0, slots) + d_alphas[rows]  # (n, L)
            d_alpha = d_alpha * alphas[rows]
            d_scores = d_alpha - alphas[rows] * d_alpha.sum(-1, keepdim=True)
            # Going back, captions only grow: where there is no word yet, the zeros still stand.
            inside.d_scores.index_copy_(0, slots, d_scores)
            inside.set_queries(slots, queries[rows])
            inside.backward(time)
            d_query = inside.d_queries.index_select(0, slots).mul_(4 * inside.score)

            torch.cat((d_query, *d_recurrent, d_gate), -1, out=d_from_state[rows])
            d_carried = torch.mm(d_from_state[rows].to(product), state_weight)
            d_carried = torch.addcmul(d_carried, d_state, update)

        d_first = before.new_zeros(everyone, units).index_copy_(0, words.slots[0], d_carried)
        d_first = d_first.view(words.photographs, words.captions, units).sum(1, keepdim=True)
        d_keys, d_score = inside.finish()
        steps = len(words.slots)
        by_photograph = (
            words.padded(rows).transpose(0, 1).reshape(words.photographs, steps * words.captions, -1)
            for rows in (alphas.to(product), d_looked)
        )
        alphas_there, d_looked_there = by_photograph
        d_memory = torch.bmm(alphas_there.transpose(1, 2), d_looked_there)
        d_state_weight = torch.mm(d_from_state.to(product).t(), before.to(product))
        d_context_weight = torch.mm(d_inputs.to(product).t(), contexts.to(product))
        d_from_words = torch.cat((d_from_state[:, : keys.shape[-1]], d_inputs), -1) if ctx.asked else d_inputs
        gradients = (
            d_memory, d_keys, d_from_words, d_score, d_state_weight, d_from_state.sum(0), d_context_weight
        )  # fmt: skip
        others = (gradient.to(kind) for gradient, kind in zip(gradients, ctx.types, strict=True))
        return None, None, d_first, *others
