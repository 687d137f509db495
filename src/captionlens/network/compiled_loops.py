"""Loops compiled by Numba: what they have in common, and when they take the place of PyTorch's operations.

PyTorch would make of each of these loops a dozen passes over memory; here a value is read once, worked on and written.
Arrays are float32 or float64, and constants have their type: to Numba, float32 times an integer is float64. A loop is
compiled when it is first called, and kept on disk for the next process.
"""

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Both take OpenMP's threads, but Numba does not read OMP_NUM_THREADS; it reads this when it is imported. More threads
# than a process is meant to have wait for each other most of the time. Once it is there, it refuses another number.
if "numba" not in sys.modules:
    os.environ.setdefault("NUMBA_NUM_THREADS", str(torch.get_num_threads()))

import numba as numba
import numpy as np
from numba import prange as prange
from numba.extending import overload as overload

# Sums in any order, multiplications fused with additions. Infinity must stay infinity: see `attention_kernels.attend`.
_FAST = {"reassoc", "contract", "arcp", "nsz"}

compiled: Callable[[Any], Any] = numba.njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)


def serve(values: Tensor, *, heads: int = 1, sentinel: bool = False) -> bool:
    """Whether the compiled loops can compute with `values`; PyTorch's own operations do where they cannot.

    Args:
        values: on a processor, whose products are in single or double precision or in bfloat16.
        heads: of the attention; the loops know one.
        sentinel: whether the attention has one; the loops know none.
    """
    if values.device.type != "cpu" or heads > 1 or sentinel:
        return False
    return product_type(values) in (torch.float32, torch.float64, torch.bfloat16)


def product_type(values: Tensor) -> torch.dtype:
    """The type in which matrix products with `values` are computed: autocast's where it is on, else their own."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype


def exp(x: Any) -> Any:
    """The exponential of a number; only inside compiled loops."""
    raise NotImplementedError


@overload(exp, jit_options={"fastmath": {"contract"}}, inline="always")
def _overload_exp(x: Any) -> Any:
    if x != numba.types.float32:

        def library_exp(x: Any) -> Any:
            return math.exp(x)

        return library_exp

    def single_exp(x: Any) -> Any:
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

    return single_exp
