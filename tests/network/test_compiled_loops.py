"""The compiled loops' own arithmetic, and where they serve; what they are for is tested with decoder and loss."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from captionlens.network import compiled_loops
from captionlens.network.compiled_loops import compiled, exp, prange
from captionlens.network.decoder import DecoderWeights
from captionlens.network.smoothed_cross_entropy import smoothed_cross_entropy
from captionlens.network.unroll import unroll
from captionlens.network.words import Words


@compiled
def exponentials(values: Any, results: Any) -> None:
    for i in prange(len(values)):
        results[i] = exp(values[i])


@pytest.mark.parametrize(("kind", "error"), [(np.float32, 2e-7), (np.float64, 1e-15)])
def test_exponential_is_right_to_the_last_bits(kind: type, error: float) -> None:
    values: NDArray[Any] = np.linspace(-86, 88, 100_001).astype(kind)
    results = np.empty_like(values)
    exponentials(values, results)
    expected = np.exp(values.astype(np.float64))
    assert np.abs(results / expected - 1).max() < error


def test_exponential_ends_at_the_ends_of_its_type_and_passes_on_what_is_no_number() -> None:
    values = np.array([-np.inf, -1000, 0, np.nan], np.float32)
    results = np.empty_like(values)
    exponentials(values, results)
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
    weights = DecoderWeights(
        score=torch.zeros(5),
        word_weight=torch.zeros(9, 0),
        word_bias=torch.zeros(9),
        state_weight=torch.zeros(14, 3),
        state_bias=torch.zeros(14),
        context_weight=torch.zeros(9, 6),
    )
    first, memory, keys, from_words = (torch.zeros(shape) for shape in ((1, 1, 3), (1, 4, 6), (1, 4, 5), (2, 9)))
    from_words[0, 0] = torch.nan
    states, _, alphas, _ = unroll(words, first, memory, keys, from_words, weights)
    assert states[0].isnan().any()
    assert alphas[1].isnan().any()


def test_loops_serve_on_processors_one_head_without_a_sentinel() -> None:
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        assert compiled_loops.serve(torch.zeros(2, dtype=kind))
    values = torch.zeros(2)
    assert not compiled_loops.serve(values.half())
    assert not compiled_loops.serve(values.to("meta"))
    assert not compiled_loops.serve(values, heads=2)
    assert not compiled_loops.serve(values, sentinel=True)
    with torch.autocast("cpu", torch.float16):
        assert not compiled_loops.serve(values)
    with torch.autocast("cpu", torch.bfloat16):
        assert compiled_loops.serve(values)


@pytest.mark.slow
def test_loops_and_pytorch_take_the_threads_that_the_process_is_meant_to_have() -> None:
    program = """
import torch
from captionlens.network.smoothed_cross_entropy import smoothed_cross_entropy
smoothed_cross_entropy(torch.zeros(3, 20), torch.eye(20), torch.zeros(20), torch.tensor([1, 2, 3]), 0.1)
import numba
print(numba.get_num_threads(), torch.get_num_threads())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("NUMBA_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
