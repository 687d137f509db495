"""Common parts of the loops compiled by Numba: compiler options, threads, and the inputs that they support.

In PyTorch each of these loops would be a dozen passes over memory; here each value is read and written once. Arrays are
float32 or float64, and constants have the same type, since Numba promotes float32 times an integer to float64. A loop
is compiled at its first call, and cached on disk for later processes.
"""

import math
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# PyTorch and Numba both use OpenMP, but Numba ignores OMP_NUM_THREADS and reads this variable when it is imported. Too
# many threads would mostly wait for each other, and the number cannot be raised after the import.
if "numba" not in sys.modules:
    os.environ.setdefault("NUMBA_NUM_THREADS", str(torch.get_num_threads()))

import numba as numba
import numpy as np
from numba import prange as prange
from numba.extending import overload as overload

# Sums in any order, fused multiply-adds. Infinity must stay infinity: see `attention_kernels.attend`.
_FAST = {"reassoc", "contract", "arcp", "nsz"}

compiled: Callable[[Any], Any] = numba.njit(parallel=True, fastmath=_FAST, cache=True, nogil=True)


def serve(values: Tensor, *, heads: int = 1, sentinel: bool = False) -> bool:
    """Whether the compiled loops support these inputs; if not, PyTorch's own operations are used.

    Args:
        values: supported on a processor, with products in single or double precision or in bfloat16.
        heads: of the attention; the loops support one.
        sentinel: whether the attention has one; the loops do not support it.
    """
    if values.device.type != "cpu" or heads > 1 or sentinel:
        return False
    return product_type(values) in (torch.float32, torch.float64, torch.bfloat16)


def product_type(values: Tensor) -> torch.dtype:
    """Type of matrix products with `values`: autocast's where it is enabled, else their own."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype


def exp(x: Any) -> Any:
    """Exponential of a number; only inside compiled loops."""
    raise NotImplementedError


@overload(exp, jit_options={"fastmath": {"contract"}}, inline="always")
def _overload_exp(x: Any) -> Any:
    if x != numba.types.float32:

        def library_exp(x: Any) -> Any:
            return math.exp(x)

        return library_exp

    def single_exp(x: Any) -> Any:
        # A library's exp is a call per value; this is vectorised. Range reduction by powers of two, as in Cephes, then
        # a Taylor polynomial: relative error 2e-7 (tests measure it).
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
