"""Loops over words, places and units on a processor, compiled by Numba when they are first used.

PyTorch would make each of these out of a dozen passes over memory; here a value is read once, worked on and
written. Arrays are float32 or float64, and constants have their type: to Numba, float32 times an integer is
float64. A compiled loop is kept on disk for the next process.
"""

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

# Both take OpenMP's threads, but Numba does not read OMP_NUM_THREADS; it reads this when it is imported. More threads
# than a process is meant to have wait for each other most of the time. Once it is there, it refuses another number.
if "numba" not in sys.modules:
    os.environ.setdefault("NUMBA_NUM_THREADS", str(torch.get_num_threads()))

import numba
import numpy as np
from numba import prange as prange
from numba.extending import overload

# Sums in any order, multiplications fused with additions. Infinity must stay infinity: see `look`.
_FAST = {"reassoc", "contract", "arcp", "nsz"}

_compiled: Callable[[Any], Any] = numba.njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)


def _exp(x: Any) -> Any:
    """The exponential of a number; only inside compiled loops."""
    raise NotImplementedError


@overload(_exp, jit_options={"fastmath": {"contract"}}, inline="always")
def _overload_exp(x: Any) -> Any:
    if x != numba.types.float32:

        def library_exp(x: Any) -> Any:
            return math.exp(x)

        return library_exp

    def exp(x: Any) -> Any:
        # A library's exp is a call for each value; this is done for a whole register at a time. Range reduction by
        # powers of two, as Cephes does it, then Taylor's polynomial: relative error 2e-7 (tests measure it).
        x = min(max(x, np.float32(-87)), np.float32(88))
        power = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
        x = x - power * np.float32(0.693359375)  # ln 2 in two parts: the first has few bits, the product is exact
        x = x + power * np.float32(2.12194440e-4)
        series = np.float32(1 / 5040)
        series = series * x + np.float32(1 / 720)
        series = series * x + np.float32(1 / 120)
        series = series * x + np.float32(1 / 24)
        series = series * x + np.float32(1 / 6)
        series = series * x + np.float32(0.5)
        series = series * x + np.float32(1)
        series = series * x + np.float32(1)
        return series * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)

    return exp


def _widen(x: Any) -> Any:
    """A number from an array, 16 bits of a bfloat16 as float32; only inside compiled loops."""
    raise NotImplementedError


@overload(_widen, inline="always")
def _overload_widen(x: Any) -> Any:
    def itself(x: Any) -> Any:
        return x

    def from_bits(x: Any) -> Any:  # a bfloat16 is the upper half of a float32
        return np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)

    return itself if isinstance(x, numba.types.Float) else from_bits


def _order(x: Any) -> Any:
    """A number as an integer in the same order, NaN the highest: a maximum of integers is vectorised, one of floats
    would have to look at NaN; only inside compiled loops."""
    raise NotImplementedError


@overload(_order, inline="always")
def _overload_order(x: Any) -> Any:
    def of_single(x: Any) -> Any:
        bits = np.float32(x).view(np.int32)
        return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))

    def of_double(x: Any) -> Any:
        bits = np.float64(x).view(np.int64)
        return np.int64(bits ^ ((bits >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF)))

    return of_single if x == numba.types.float32 else of_double


def _from_order(x: Any) -> Any:
    """The number that `_order` was given; only inside compiled loops."""
    raise NotImplementedError


@overload(_from_order, inline="always")
def _overload_from_order(x: Any) -> Any:
    def to_single(x: Any) -> Any:
        return np.int32(x ^ ((x >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)

    def to_double(x: Any) -> Any:
        return np.int64(x ^ ((x >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF))).view(np.float64)

    return to_single if x == numba.types.int32 else to_double


def _write(array: Any, row: int, column: int, value: Any) -> None:
    """Put a number into an array, rounded to the bits of a bfloat16 where it holds such."""
    raise NotImplementedError


@overload(_write, inline="always")
def _overload_write(array: Any, row: int, column: int, value: Any) -> Any:
    def write(array: Any, row: int, column: int, value: Any) -> None:
        array[row, column] = value

    def write_bits(array: Any, row: int, column: int, value: Any) -> None:
        bits = np.float32(value).view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)  # to the nearest, and to the even one of two
        array[row, column] = np.uint16(np.uint32(bits + np.uint32(0x7FFF) + even) >> np.uint32(16))

    return write if isinstance(array.dtype, numba.types.Float) else write_bits


@_compiled
def exponentials(values: Any, results: Any) -> None:
    """Of a vector; for tests."""
    for i in prange(len(values)):
        results[i] = _exp(values[i])


@_compiled
def look(
    begin: int,
    photographs: Any,
    keys: Any,
    memory: Any,
    score: Any,
    from_state: Any,
    from_words: Any,
    queries: Any,
    alphas: Any,
    looked: Any,
    gates: Any,
    contexts: Any,
) -> None:
    """Additive attention of n words that follow `begin`, and their gated contexts.

    With r = 1 / (1 + exp(2 key) exp(2 query)) it is tanh(key + query) = 1 - 2 r: the exponentials are taken once for
    each place and once for each word, and what is left for each pair of them is a product and a division. Where a
    product overflows, r is 0 as it should be.

    Args:
        begin: the first word's row in all arrays (N, ...).
        photographs: of each word (N,).
        keys: exp(2 key) of each place (P, L, A).
        memory: encoded places (P, L, M).
        score: weights (A,).
        from_state: query, cell and gate from the state (n, A + G [+ 1 or M]); G is 3H in a GRU, 4H in an LSTM.
        from_words: what the words before give to the query, if it is asked for, and the cell (N, [A +] G).
        queries, alphas, looked, gates, contexts: results: exp(2 query) (N, A), attention (N, L), contexts before the
            gate (N, M), the gate (N, M), (N, 1) or (N, 0), contexts (N, M).
    """
    places, size = keys.shape[1:]
    width = memory.shape[2]
    number = score.dtype.type
    zero, one, two, limit = number(0), number(1), number(2), number(40)
    gate_begin = from_state.shape[1] - gates.shape[1]
    asked = from_words.shape[1] > gate_begin - size
    one_gate = gates.shape[1] == 1 and width > 1
    for i in prange(len(from_state)):
        row = begin + i
        photograph = photographs[row]
        query = queries[row]
        for a in range(size):
            value = from_state[i, a]
            if asked:
                value += from_words[row, a]
            # Infinity times zero would be no number; beyond 40 a tanh is 1 whatever a sane other summand.
            query[a] = _exp(two * min(max(value, -limit), limit))
        alpha = alphas[row]
        for place in range(places):
            key = keys[photograph, place]
            total = zero
            for a in range(size):
                total += score[a] / (one + key[a] * query[a])
            alpha[place] = -two * total  # short of what cancels in the softmax
        highest = alpha.max()
        total = zero
        for place in range(places):
            alpha[place] = _exp(alpha[place] - highest)
            total += alpha[place]
        context = looked[row]
        context[:] = zero
        for place in range(places):
            alpha[place] /= total
            weight = alpha[place]
            for m in range(width):
                context[m] += weight * memory[photograph, place, m]
        if one_gate:
            gate = one / (one + _exp(-from_state[i, gate_begin]))
            gates[row, 0] = gate
            for m in range(width):
                contexts[row, m] = gate * context[m]
        elif gates.shape[1]:
            for m in range(width):
                gates[row, m] = one / (one + _exp(-from_state[i, gate_begin + m]))
                contexts[row, m] = gates[row, m] * context[m]


@_compiled
def pick(
    begin: int,
    end: int,
    photographs: Any,
    memory: Any,
    draws: Any,
    alphas: Any,
    gates: Any,
    chosen: Any,
    looked: Any,
    contexts: Any,
) -> None:
    """Hard attention, after `look`: contexts of one place for words whose draw asks for it.

    Args:
        begin, end: the rows of the words in all arrays (N, ...).
        photographs, memory, alphas, gates: as in `look`.
        draws: of each word (N,): in [0, 1) a place is drawn with it, from 1 on it is the strongest place, and below 0
            the expected context stays.
        chosen: result (N,): the place, or -1.
        looked, contexts: results of `look`, replaced.
    """
    places = alphas.shape[1]
    width = memory.shape[2]
    number = alphas.dtype.type
    for row in prange(begin, end):
        alpha = alphas[row]
        place = -1
        if draws[row] >= 1:
            place = 0
            for other in range(places):
                if alpha[other] > alpha[place]:
                    place = other
        elif draws[row] >= 0:
            total = number(0)
            for other in range(places):
                total += alpha[other]
            passed = number(0)
            target = draws[row] * total
            place = places - 1
            for other in range(places):
                passed += alpha[other]
                if passed > target:
                    place = other
                    break
        chosen[row] = place
        if place >= 0:
            seen = memory[photographs[row], place]
            for m in range(width):
                looked[row, m] = seen[m]
                if gates.shape[1] == width:
                    contexts[row, m] = gates[row, m] * seen[m]
                elif gates.shape[1]:
                    contexts[row, m] = gates[row, 0] * seen[m]


@_compiled
def gate_back(begin: int, gates: Any, looked: Any, d_context: Any, d_contexts: Any, d_from_state: Any) -> None:
    """The gradients of a gate that is one number for all of a context, of n words that follow `begin`.

    Args:
        begin: the first word's row.
        gates, looked: as `look` made them, (N, 1) and (N, M).
        d_context, d_contexts: as in `look_back`; from gradients of the contexts they become those before the gate.
        d_from_state: result (N, A + G + 1); this sets the gate's part.
    """
    width = looked.shape[1]
    number = gates.dtype.type
    zero, one = number(0), number(1)
    for i in prange(len(d_context)):
        row = begin + i
        gate, d_gate = gates[row, 0], zero
        for m in range(width):
            d_gate += (d_context[i, m] + d_contexts[row, m]) * looked[row, m]
            d_context[i, m] *= gate
            d_contexts[row, m] *= gate
        d_from_state[row, d_from_state.shape[1] - 1] = d_gate * gate * (one - gate)


@_compiled
def look_back(
    starts: Any,
    keys: Any,
    memory: Any,
    score: Any,
    queries: Any,
    alphas: Any,
    looked: Any,
    gates: Any,
    chosen: Any,
    d_context: Any,
    d_contexts: Any,
    d_alphas: Any,
    d_from_state: Any,
    d_looked: Any,
    d_keys: Any,
    d_score: Any,
) -> None:
    """The gradients of `look`; photographs side by side, as their words share keys.

    Args:
        starts: the row where each photograph's words begin, and the end of the last (P + 1,).
        keys, memory, score, queries, alphas, looked, gates: as `look` was given them and made them.
            A gate that is one number is `gate_back`'s, and `gates` (N, 0) here.
        chosen: of `pick` (N,), or empty if all attention is soft.
        d_context: gradients of the contexts (n, M) by way of the cell; `d_contexts` (N, M) and `d_alphas` (N, L) are
            those from outside.
        d_from_state: result (N, A + G [+ 1 or M]); this sets the query's and the gate's part.
        d_looked: result (N, M), of the contexts before the gate.
        d_keys, d_score: (P, L, A) and (P, A), added to: gradients of keys and score, short of factors that do not
            depend on the word, 4 score and -2.
    """
    places, size = keys.shape[1:]
    width = memory.shape[2]
    number = score.dtype.type
    zero, one, four = number(0), number(1), number(4)
    gate_begin = d_from_state.shape[1] - gates.shape[1]
    for photograph in prange(len(starts) - 1):
        for row in range(starts[photograph], starts[photograph + 1]):
            d_seen = d_looked[row]
            for m in range(width):
                d_seen[m] = d_context[row - starts[0], m] + d_contexts[row, m]
                if gates.shape[1]:
                    gate = gates[row, m]
                    d_from_state[row, gate_begin + m] = d_seen[m] * looked[row, m] * gate * (one - gate)
                    d_seen[m] *= gate
            soft = len(chosen) == 0 or chosen[row] < 0  # a place that was picked tells the attention nothing
            d_scores = np.empty_like(alphas[row])
            mean = zero
            for place in range(places):
                total = d_alphas[row, place]
                if soft:
                    for m in range(width):
                        total += d_seen[m] * memory[photograph, place, m]
                d_scores[place] = total
                mean += alphas[row, place] * total
            query, d_query = queries[row], d_from_state[row, :size]
            d_query[:] = zero
            for place in range(places):
                d_place = alphas[row, place] * (d_scores[place] - mean)
                key = keys[photograph, place]
                for a in range(size):
                    r = one / (one + key[a] * query[a])
                    # The tanh has slope 4 r (1 - r). All d_place sum to zero: the 1 of 1 - 2 r gives nothing.
                    weighted = d_place * r
                    d_inside = weighted - weighted * r
                    d_score[photograph, a] += weighted
                    d_query[a] += d_inside
                    d_keys[photograph, place, a] += d_inside
            for a in range(size):
                d_query[a] *= four * score[a]


@_compiled
def cross_entropy(logits: Any, bias: Any, targets: Any, importance: Any, smoothing: Any, losses: Any) -> None:
    """Label-smoothed cross-entropy of N words and its gradient, each row of logits read from memory once.

    Args:
        logits: (R, V), floats or the bits of bfloat16, short of the bias; replaced by the gradient of the mean over
            words of the smoothed cross-entropy, zero in the rows from N to R.
        bias: (V,), in the type of `losses`.
        targets: (N,).
        importance: of each word (N,), which its gradient is multiplied by, or (0,) where that is 1 for all.
        smoothing: in the type of `losses`.
        losses: results (N, 2): the cross-entropy of the right word, and the mean of that of all words.
    """
    size = logits.shape[1]
    count = len(targets)
    number = losses.dtype.type
    zero, one = number(0), number(1)
    share = one / number(count)
    spread = smoothing / number(size)
    for row in prange(len(logits)):
        if row >= count:
            logits[row] = 0
            continue
        values = np.empty(size, losses.dtype)
        highest = _order(-number(np.inf))
        sum_of_logits = zero
        for word in range(size):
            values[word] = _widen(logits[row, word]) + bias[word]
            sum_of_logits += values[word]
            highest = max(highest, _order(values[word]))
        target, highest_value = targets[row], _from_order(highest)
        of_target = values[target] - highest_value
        total = zero
        for word in range(size):
            values[word] = _exp(values[word] - highest_value)
            total += values[word]
        log_total = math.log(total)
        losses[row, 0] = log_total - of_target
        losses[row, 1] = log_total - (sum_of_logits / number(size) - highest_value)
        portion = share * importance[row] if len(importance) else share
        scale = portion / total
        for word in range(size):
            _write(logits, row, word, values[word] * scale - spread * portion)
        probability = values[target] / total
        _write(logits, row, target, (probability - spread - (one - smoothing)) * portion)
