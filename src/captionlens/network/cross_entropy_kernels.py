"""Compiled loops of the cross-entropy over a vocabulary and its gradient, in single precision or in bfloat16."""

import math
from typing import Any

import numpy as np

# Numba by way of there, where it learns of its threads before it is imported.
from captionlens.network.compiled_loops import compiled, exp, numba, overload, prange


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


@compiled
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
            values[word] = exp(values[word] - highest_value)
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
