"""The compiled loops' own arithmetic; what they are for is tested with recurrence and loss."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from captionlens.network import kernels
from captionlens.network.cross_entropy import smoothed_cross_entropy
from captionlens.network.recurrence import Words, unroll


@pytest.mark.parametrize(("kind", "error"), [(np.float32, 2e-7), (np.float64, 1e-15)])
def test_exponential_is_right_to_the_last_bits(kind: type, error: float) -> None:
    values = np.linspace(-86, 88, 100_001).astype(kind)
    results = np.empty_like(values)
    kernels.exponentials(values, results)
    expected = np.exp(values.astype(np.float64))
    assert np.abs(results / expected - 1).max() < error


def test_exponential_ends_at_the_ends_of_its_type_and_passes_on_what_is_no_number() -> None:
    values = np.array([-np.inf, -1000, 0, np.nan], np.float32)
    results = np.empty_like(values)
    kernels.exponentials(values, results)
    assert results[:2].max() < 1e-37
    assert results[2] == 1
    assert np.isnan(results[3])


def test_what_is_no_number_is_seen_in_the_loss() -> None:
    hidden = torch.zeros(3, 20)
    hidden[1, 5] = torch.nan
    loss, plain, _ = smoothed_cross_entropy(hidden, torch.eye(20), torch.zeros(20), torch.tensor([1, 2, 3]), 0.1)
    assert loss.isnan()
    assert plain.isnan()


def test_what_is_no_number_is_seen_in_the_states() -> None:
    words = Words.of(torch.tensor([[2]]))
    values = [torch.zeros(shape) for shape in ((1, 1, 3), (1, 4, 6), (1, 4, 5), (2, 9), (5,), (14, 3), (14,), (9, 6))]
    values[3][0, 0] = torch.nan
    states, _, alphas, _ = unroll(words, *values)
    assert states[0].isnan().any()
    assert alphas[1].isnan().any()


def test_loops_and_pytorch_take_the_threads_that_the_process_is_meant_to_have() -> None:
    program = """
import torch
from captionlens.network.cross_entropy import smoothed_cross_entropy
smoothed_cross_entropy(torch.zeros(3, 20), torch.eye(20), torch.zeros(20), torch.tensor([1, 2, 3]), 0.1)
import numba
print(numba.get_num_threads(), torch.get_num_threads())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("NUMBA_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
