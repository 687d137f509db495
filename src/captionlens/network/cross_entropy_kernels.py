"""Compiled loops of the cross-entropy with smoothed or soft targets, and its gradient, in float32 or bfloat16."""

import math
from typing import Any

import numpy as np

# Numba is imported through `compiled_loops`, which sets its number of threads first.
from captionlens.network.compiled_loops import compiled, exp, numba, overload, prange


def _widen(x: Any) -> Any:
    """Load a number from an array, the 16 bits of a bfloat16 as float32; only inside compiled loops."""
    raise NotImplementedError


@overload(_widen, inline="always")
def _overload_widen(x: Any) -> Any:
    def itself(x: Any) -> Any:
        return x

    def from_bits(x: Any) -> Any:  # a bfloat16 is the upper half of a float32
        return np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)

    return itself if isinstance(x, numba.types.Float) else from_bits


def _order(x: Any) -> Any:
    """Map a number to an integer in the same order, NaN the highest; only inside compiled loops.

    A maximum of integers is vectorised; a maximum of floats is not, because of NaN.
    """
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
    """Invert `_order`; only inside compiled loops."""
    raise NotImplementedError


@overload(_from_order, inline="always")
def _overload_from_order(x: Any) -> Any:
    def to_single(x: Any) -> Any:
        return np.int32(x ^ ((x >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)

    def to_double(x: Any) -> Any:
        return np.int64(x ^ ((x >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF))).view(np.float64)

    return to_single if x == numba.types.int32 else to_double


def _write(array: Any, row: int, column: int, value: Any) -> None:
    """Store a number in an array, rounded to the bits of a bfloat16 if that is its type."""
    raise NotImplementedError


@overload(_write, inline="always")
def _overload_write(array: Any, row: int, column: int, value: Any) -> Any:
    def write(array: Any, row: int, column: int, value: Any) -> None:
        array[row, column] = value

    def write_bits(array: Any, row: int, column: int, value: Any) -> None:
        bits = np.float32(value).view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)  # round half to even
        array[row, column] = np.uint16(np.uint32(bits + np.uint32(0x7FFF) + even) >> np.uint32(16))

    return write if isinstance(array.dtype, numba.types.Float) else write_bits


@compiled
def cross_entropy(
    logits: Any, bias: Any, targets: Any, importance: Any, words: Any, masses: Any, smoothing: Any, losses: Any
) -> None:
    """Compute the cross-entropy of N words and its gradient, reading each row of logits once.

    A word's target distribution has `masses` on the words of its row; what they leave of 1 goes to the target, label
    smoothing included.

    Args:
        logits: (R, V), floats or the bits of bfloat16, without the bias; replaced by the gradient of the mean
            cross-entropy with these distributions, zero in the rows from N to R.
        bias: (V,), in the type of `losses`.
        targets: (N,).
        importance: factor of each word's gradient (N,), or (0,) for a factor of 1.
        words: of the soft targets (N, K); K may be 0.
        masses: of these words (N, K), in the type of `losses`; their sum is at most 1.
        smoothing: in the type of `losses`.
        losses: results (N, 3): the cross-entropy of the target, its mean over the vocabulary, and its sum over the soft
            targets, each times its mass.
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
            values[word] = exp(values[word] - highest_value)
            total += values[word]
        log_total = math.log(total)
        losses[row, 0] = log_total - of_target
        losses[row, 1] = log_total - (sum_of_logits / number(size) - highest_value)
        # The gradient is probability minus mass; masses are taken off before both are scaled.
        rest, of_soft = one, zero
        for place in range(words.shape[1]):
            mass, word = masses[row, place], words[row, place]
            if mass > zero:
                # From the logit: another soft target may be the same word, whose value has changed.
                of_soft += mass * (log_total - (_widen(logits[row, word]) + bias[word] - highest_value))
                values[word] -= mass * total
                rest -= mass
        losses[row, 2] = of_soft
        values[target] -= rest * (one - smoothing) * total
        portion = share * importance[row] if len(importance) else share
        scale, even = portion / total, rest * spread * portion
        for word in range(size):
            _write(logits, row, word, values[word] * scale - even)
