"""The decoder through time, in compiled loops and by a backward pass by hand, against PyTorch's autograd."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from captionlens.network import unroll as unroll_module
from captionlens.network.cells import GATES
from captionlens.network.decoder import DecoderWeights, decoder_step
from captionlens.network.unroll import Unrolled, unroll, unroll_by_autograd
from captionlens.network.words import Words

LENGTHS = {
    "several": [[5, 3, 1], [4, 4, 2], [2, 1, 0]],
    "one slot": [[3], [1]],
    "one photograph": [[4, 2]],
    "an empty photograph": [[3, 2], [0, 0]],
    "not in order": [[1, 3, 2], [0, 4, 4]],
}


def arguments(
    lengths: list[list[int]],
    *,
    gate: str,
    cell: str = "gru",
    asked: bool = False,
    filling: int = 0,
    memory: int = 6,
    dtype: torch.dtype = torch.float64,
) -> tuple[Words, list[Tensor]]:
    """Random values of `unrolled` for captions of these lengths."""
    torch.manual_seed(0)
    words = Words.of(torch.tensor(lengths))
    photographs, places, size, units = len(lengths), 4, 5, 3
    gates = GATES[cell] * units
    stacked = size + gates + {"none": 0, "scalar": 1, "vector": memory}[gate]
    shapes = [
        (photographs, 1, 2 * units if cell == "lstm" else units), (photographs, places, memory),
        (photographs, places, size), (len(words.flat) + filling, gates + (size if asked else 0)), (size,),
        (stacked, units), (stacked,), (gates, memory),
    ]  # fmt: skip
    return words, [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def unrolled(
    way: Callable[..., Unrolled],
    words: Words,
    values: Sequence[Tensor],
    *,
    hard: bool = False,
    draws: Tensor | None = None,
) -> Unrolled:
    """The decoder unrolled in this way; the layers that read the word before have no part in it."""
    first, memory, keys, from_words, score, state_weight, state_bias, context_weight = values
    none = torch.empty(0)
    weights = DecoderWeights(score, none, none, state_weight, state_bias, context_weight, hard=hard)
    return way(words, first, memory, keys, from_words, weights, draws)


def loss(words: Words, results: Sequence[Tensor | None]) -> Tensor:
    """Something of all results, the sums of the attention over time included."""
    states, contexts, alphas, _ = results
    assert states is not None and contexts is not None and alphas is not None
    weights = torch.linspace(-1, 2, states.numel(), dtype=states.dtype).view(states.shape)
    sums = words.padded(alphas).sum(0)
    return (weights * states).sum() + contexts.sin().sum() + (1 - sums).square().sum()


def assert_equal_to_autograd(words: Words, values: list[Tensor], **hard: Any) -> None:
    """Results and gradients of `unroll` and `unroll_by_autograd` on the same values."""
    fast, plain = (unrolled(way, words, values, **hard) for way in (unroll, unroll_by_autograd))
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    gradients = torch.autograd.grad(loss(words, fast), values)
    expected = torch.autograd.grad(loss(words, plain), values)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("gate", ["none", "scalar", "vector"])
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_results_and_gradients_are_those_of_plain_autograd(
    lengths: list[list[int]], asked: bool, gate: str, cell: str
) -> None:
    for filling in (0, 3):
        words, values = arguments(lengths, gate=gate, cell=cell, asked=asked, filling=filling)
        assert_equal_to_autograd(words, values)


def draws(words: Words) -> Tensor:
    """Of each word: some draw a place, some take the strongest, some see the expected one."""
    torch.manual_seed(2)
    kinds = torch.randint(4, (len(words.flat),))
    return torch.where(kinds == 0, -1.0, torch.where(kinds == 1, 1.0, torch.rand(len(kinds))))


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("gate", ["none", "scalar", "vector"])
@pytest.mark.parametrize("asked", [False, True])
def test_hard_results_and_gradients_are_those_of_plain_autograd(asked: bool, gate: str, cell: str) -> None:
    for lengths in LENGTHS.values():
        words, values = arguments(lengths, gate=gate, cell=cell, asked=asked, filling=3)
        assert_equal_to_autograd(words, values, hard=True, draws=draws(words))
        assert_equal_to_autograd(words, values, hard=True)


def test_hard_attention_draws_each_place_as_often_as_it_is_weighed() -> None:
    words, values = arguments([[1] * 4000], gate="none")
    torch.manual_seed(3)
    for way in (unroll, unroll_by_autograd):
        random = torch.rand(4000, dtype=torch.float64)
        _, contexts, alphas, chosen = unrolled(way, words, values, hard=True, draws=random)
        assert chosen is not None
        shares = torch.bincount(chosen, minlength=4) / 4000
        # The words are alike but for what they are fed: all have one attention at the first word.
        error = 4 * (alphas[0] * (1 - alphas[0]) / 4000).sqrt()  # four standard deviations
        assert ((shares - alphas[0]).abs() < error).all()
        torch.testing.assert_close(contexts, values[1][0, chosen])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "gate", "asked", "hard"),
    [("gru", "none", False, False), ("gru", "vector", True, False), ("lstm", "scalar", True, True)],
)
def test_what_computes_a_word_can_be_compiled_whole_for_words_of_any_number(
    cell: str, gate: str, asked: bool, hard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a card, but for the code that is made at last, which would need a compiler of C++ here.
    torch.compiler.reset()  # it keeps a few variants of a function, of all tests together
    compiled_step = torch.compile(decoder_step, dynamic=True, fullgraph=True, backend="aot_eager")
    for lengths in LENGTHS.values():
        words, values = arguments(lengths, cell=cell, gate=gate, asked=asked)
        options: dict[str, Any] = {"hard": True, "draws": draws(words)} if hard else {}
        plain = unrolled(unroll_by_autograd, words, values, **options)
        with monkeypatch.context() as patch:
            patch.setattr(unroll_module, "decoder_step", compiled_step)
            compiled = unrolled(unroll_by_autograd, words, values, **options)
        gradients = torch.autograd.grad(loss(words, compiled), values)
        expected = torch.autograd.grad(loss(words, plain), values)
        for one, other in zip((*compiled, *gradients), (*plain, *expected), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_large_values_inside_the_attention_stay_finite() -> None:
    words, values = arguments(LENGTHS["several"], gate="vector")
    with torch.no_grad():
        values[2][0] *= 30
        values[2][1, 0] = 500.0
        values[2][1, 1] = -500.0
    assert_equal_to_autograd(words, values)
