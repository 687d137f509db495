"""Compiled loops of additive attention, soft and hard, and of the gate of its context vector."""

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from captionlens.network.compiled_loops import compiled, exp, prange


class Places(NamedTuple):
    """Arrays of the encoded places of P photographs: `keys`, exp(2 key) (P, L, A), and `memory` (P, L, M)."""

    keys: Any
    memory: Any


class Attention(NamedTuple):
    """Arrays of the attention of N words, which `attend` fills and `attend_backward` reads.

    `queries`, exp(2 query) (N, A); `alphas`, the attention (N, L); `ungated`, contexts before the gate (N, M); `gates`
    (N, M), (N, 1) or, without a gate, (N, 0).
    """

    queries: Any
    alphas: Any
    ungated: Any
    gates: Any


class Gradients(NamedTuple):
    """Arrays of the gradients that `attend_backward` computes.

    It sets `ungated` (N, M), the gradients of the contexts before the gate, and the columns of query and gate in
    `from_state` (N, A + G [+ 1 or M]). It adds to `keys` (P, L, A) and `score` (P, A), without their constant factors
    4 score and -2.
    """

    from_state: Any
    ungated: Any
    keys: Any
    score: Any


def exponentials_of_keys(keys: Tensor) -> Tensor:
    """Transform keys (P, L, A) to exp(2 key), the form that `attend` reads."""
    # Clamped, as infinity times zero is NaN; beyond 40 the tanh is 1 for any reasonable other summand.
    return keys.clamp(-40, 40).mul_(2).exp_()


@compiled
def attend(
    begin: int,
    photographs: Any,
    places: Places,
    score: Any,
    from_state: Any,
    from_words: Any,
    attention: Attention,
    contexts: Any,
) -> None:
    """Compute the additive attention of n words from row `begin` on, and their gated contexts.

    With r = 1 / (1 + exp(2 key) exp(2 query)), tanh(key + query) = 1 - 2 r. So the exponentials are computed once per
    place and once per word, and a pair of them costs only a product and a division. Where a product overflows, r is
    correctly 0.

    Args:
        begin: the first word's row in all arrays (N, ...).
        photographs: index of each word's photograph (N,).
        places: of the P photographs.
        score: weights (A,).
        from_state: the state's projection to query, cell and gate (n, A + G [+ 1 or M]); G is 3H in a GRU, 4H in an
            LSTM.
        from_words: the previous words' projection to the query, if it reads them, and the cell (N, [A +] G).
        attention: result (N, ...).
        contexts: result (N, M); without a gate the same array as `attention.ungated`.
    """
    keys, memory = places
    queries, alphas, ungated, gates = attention
    count, size = keys.shape[1:]
    width = memory.shape[2]
    number = score.dtype.type
    zero, one, two, limit = number(0), number(1), number(2), number(40)
    gate_begin = from_state.shape[1] - gates.shape[1]
    word_query = from_words.shape[1] > gate_begin - size
    scalar_gate = gates.shape[1] == 1 and width > 1
    for i in prange(len(from_state)):
        row = begin + i
        photograph = photographs[row]
        query = queries[row]
        for a in range(size):
            value = from_state[i, a]
            if word_query:
                value += from_words[row, a]
            query[a] = exp(two * min(max(value, -limit), limit))  # clamped as in `exponentials_of_keys`
        alpha = alphas[row]
        for place in range(count):
            key = keys[photograph, place]
            total = zero
            for a in range(size):
                total += score[a] / (one + key[a] * query[a])
            alpha[place] = -two * total  # up to a constant that cancels in the softmax
        highest = alpha.max()
        total = zero
        for place in range(count):
            alpha[place] = exp(alpha[place] - highest)
            total += alpha[place]
        context = ungated[row]
        context[:] = zero
        for place in range(count):
            alpha[place] /= total
            weight = alpha[place]
            for m in range(width):
                context[m] += weight * memory[photograph, place, m]
        if scalar_gate:
            gate = one / (one + exp(-from_state[i, gate_begin]))
            gates[row, 0] = gate
            for m in range(width):
                contexts[row, m] = gate * context[m]
        elif gates.shape[1]:
            for m in range(width):
                gates[row, m] = one / (one + exp(-from_state[i, gate_begin + m]))
                contexts[row, m] = gates[row, m] * context[m]


@compiled
def select_places(
    begin: int,
    end: int,
    photographs: Any,
    memory: Any,
    draws: Any,
    attention: Attention,
    contexts: Any,
    chosen: Any,
) -> None:
    """Apply hard attention after `attend`: replace the contexts by single places, as the draws demand.

    Args:
        begin, end: the rows of the words in all arrays (N, ...).
        photographs, memory: as in `attend`.
        draws: of each word (N,): a number in [0, 1) samples a place, one from 1 on selects the argmax, and one below 0
            keeps the expected context.
        attention, contexts: as `attend` left them; `ungated` and `contexts` are replaced.
        chosen: result (N,): the place, or -1.
    """
    _, alphas, ungated, gates = attention
    count = alphas.shape[1]
    width = memory.shape[2]
    number = alphas.dtype.type
    for row in prange(begin, end):
        alpha = alphas[row]
        place = -1
        if draws[row] >= 1:
            place = 0
            for other in range(count):
                if alpha[other] > alpha[place]:
                    place = other
        elif draws[row] >= 0:
            total = number(0)
            for other in range(count):
                total += alpha[other]
            passed = number(0)
            target = draws[row] * total
            place = count - 1
            for other in range(count):
                passed += alpha[other]
                if passed > target:
                    place = other
                    break
        chosen[row] = place
        if place >= 0:
            seen = memory[photographs[row], place]
            for m in range(width):
                ungated[row, m] = seen[m]
                if gates.shape[1] == width:
                    contexts[row, m] = gates[row, m] * seen[m]
                elif gates.shape[1]:
                    contexts[row, m] = gates[row, 0] * seen[m]


@compiled
def scalar_gate_backward(
    begin: int, gates: Any, ungated: Any, d_context: Any, d_contexts: Any, d_from_state: Any
) -> None:
    """Backward pass of a scalar gate, for n words from row `begin` on.

    Args:
        begin: the first word's row.
        gates, ungated: of `Attention`, (N, 1) and (N, M).
        d_context, d_contexts: as in `attend_backward`; replaced by the gradients of the contexts before the gate.
        d_from_state: result (N, A + G + 1), of which the gate's column is set.
    """
    width = ungated.shape[1]
    number = gates.dtype.type
    zero, one = number(0), number(1)
    for i in prange(len(d_context)):
        row = begin + i
        gate, d_gate = gates[row, 0], zero
        for m in range(width):
            d_gate += (d_context[i, m] + d_contexts[row, m]) * ungated[row, m]
            d_context[i, m] *= gate
            d_contexts[row, m] *= gate
        d_from_state[row, d_from_state.shape[1] - 1] = d_gate * gate * (one - gate)


@compiled
def attend_backward(
    starts: Any,
    places: Places,
    score: Any,
    attention: Attention,
    chosen: Any,
    d_context: Any,
    d_contexts: Any,
    d_alphas: Any,
    results: Gradients,
) -> None:
    """Backward pass of `attend`, parallel over photographs, whose words share keys.

    Args:
        starts: the row where each photograph's words begin, and the end of the last (P + 1,).
        places, score: as in `attend`.
        attention: as `attend` left it. With a scalar gate, `scalar_gate_backward` runs first and `gates` is (N, 0).
        chosen: of `select_places` (N,), or empty if all attention is soft.
        d_context: gradients of the contexts through the cell (n, M).
        d_contexts, d_alphas: gradients of the contexts (N, M) and of the attention (N, L) from the loss.
        results: set in the rows of the words, or accumulated, see `Gradients`.
    """
    keys, memory = places
    queries, alphas, ungated, gates = attention
    d_from_state, d_ungated, d_keys, d_score = results
    count, size = keys.shape[1:]
    width = memory.shape[2]
    number = score.dtype.type
    zero, one, four = number(0), number(1), number(4)
    gate_begin = d_from_state.shape[1] - gates.shape[1]
    for photograph in prange(len(starts) - 1):
        for row in range(starts[photograph], starts[photograph + 1]):
            d_seen = d_ungated[row]
            for m in range(width):
                d_seen[m] = d_context[row - starts[0], m] + d_contexts[row, m]
                if gates.shape[1]:
                    gate = gates[row, m]
                    d_from_state[row, gate_begin + m] = d_seen[m] * ungated[row, m] * gate * (one - gate)
                    d_seen[m] *= gate
            soft = len(chosen) == 0 or chosen[row] < 0  # a selected place passes no gradient to the attention
            d_scores = np.empty_like(alphas[row])
            mean = zero
            for place in range(count):
                total = d_alphas[row, place]
                if soft:
                    for m in range(width):
                        total += d_seen[m] * memory[photograph, place, m]
                d_scores[place] = total
                mean += alphas[row, place] * total
            query, d_query = queries[row], d_from_state[row, :size]
            d_query[:] = zero
            for place in range(count):
                d_place = alphas[row, place] * (d_scores[place] - mean)
                key = keys[photograph, place]
                for a in range(size):
                    r = one / (one + key[a] * query[a])
                    # The tanh has slope 4 r (1 - r). All d_place sum to zero, so the 1 of 1 - 2 r contributes nothing.
                    weighted = d_place * r
                    d_inside = weighted - weighted * r
                    d_score[photograph, a] += weighted
                    d_query[a] += d_inside
                    d_keys[photograph, place, a] += d_inside
            for a in range(size):
                d_query[a] *= four * score[a]
