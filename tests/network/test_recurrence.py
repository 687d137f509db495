"""Teacher forcing through time against plain autograd, and against the network word by word."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from captionlens.network import CaptioningNetwork, NetworkConfig
from captionlens.network.cells import GATES, Cell, next_state
from captionlens.network.dropout import CheapDropout
from captionlens.network.plain import advance
from captionlens.network.recurrence import Words, unroll, unroll_plainly

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
    """Random arguments of `unroll` for captions of these lengths."""
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


def loss(words: Words, results: Sequence[Tensor | None]) -> Tensor:
    """Something of all results, the sums of the attention over time included."""
    states, contexts, alphas, _ = results
    assert states is not None and contexts is not None and alphas is not None
    weights = torch.linspace(-1, 2, states.numel(), dtype=states.dtype).view(states.shape)
    sums = words.padded(alphas).sum(0)
    return (weights * states).sum() + contexts.sin().sum() + (1 - sums).square().sum()


def assert_equal_to_autograd(words: Words, values: list[Tensor], **hard: Any) -> None:
    """Results and gradients of `unroll` and `unroll_plainly` on the same values."""
    fast, plain = unroll(words, *values, **hard), unroll_plainly(words, *values, **hard)
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
    for way in (unroll, unroll_plainly):
        _, contexts, alphas, chosen = way(words, *values, hard=True, draws=torch.rand(4000, dtype=torch.float64))
        assert chosen is not None
        shares = torch.bincount(chosen, minlength=4) / 4000
        # The words are alike but for what they are fed: all have one attention at the first word.
        error = 4 * (alphas[0] * (1 - alphas[0]) / 4000).sqrt()  # four standard deviations
        assert ((shares - alphas[0]).abs() < error).all()
        torch.testing.assert_close(contexts, values[1][0, chosen])


@pytest.mark.parametrize("cell", GATES)
def test_a_cell_is_that_of_pytorch(cell: str) -> None:
    torch.manual_seed(0)
    ours, (context, embedded, state, memory) = Cell(cell, 4, 3, 5), (torch.randn(7, size) for size in (4, 3, 5, 5))
    theirs = {"gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[cell](4 + 3, 5)
    with torch.no_grad():
        theirs.weight_ih.copy_(torch.cat([ours.context_layer.weight, ours.embedding_layer.weight], 1))
        theirs.weight_hh.copy_(ours.state_layer.weight)
        theirs.bias_ih.copy_(ours.context_layer.bias)
        theirs.bias_hh.copy_(ours.state_layer.bias)
        inputs = ours.context_layer(context) + ours.embedding_layer(embedded)
        whole = torch.cat([state, memory], -1) if cell == "lstm" else state
        result = next_state(inputs, ours.state_layer(state), whole)
        both = torch.cat([context, embedded], -1)
        expected = torch.cat(theirs(both, (state, memory)), -1) if cell == "lstm" else theirs(both, state)
    torch.testing.assert_close(result, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "gate", "asked", "hard"),
    [("gru", "none", False, False), ("gru", "vector", True, False), ("lstm", "scalar", True, True)],
)
def test_what_computes_a_word_can_be_compiled_whole_for_words_of_any_number(
    cell: str, gate: str, asked: bool, hard: bool
) -> None:
    # As on a card, but for the code that is made at last, which would need a compiler of C++ here.
    torch.compiler.reset()  # it keeps a few variants of a function, of all tests together
    word = torch.compile(advance, dynamic=True, fullgraph=True, backend="aot_eager")
    for lengths in LENGTHS.values():
        words, values = arguments(lengths, cell=cell, gate=gate, asked=asked)
        options: dict[str, Any] = {"hard": True, "draws": draws(words)} if hard else {}
        compiled, plain = (
            unroll_plainly(words, *values, **options, word=word),
            unroll_plainly(words, *values, **options),
        )
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


def test_words_are_packed_by_time_photograph_slot() -> None:
    words = Words.of(torch.tensor([[2, 1], [0, 0], [3, 2]]))
    assert [slots.tolist() for slots in words.slots] == [[0, 1, 4, 5], [0, 4, 5], [4]]
    assert [kept.tolist() for kept in words.kept[1:]] == [[0, 2, 3], [1]]
    assert words.starts.tolist() == [0, 2, 2, 4, 5, 5, 7, 7, 7, 8]
    padded = words.padded(torch.arange(1.0, 9.0)[:, None]).squeeze(-1)  # (T, P, C)
    assert padded.sum(0).tolist() == [[6, 2], [0, 0], [3 + 6 + 8, 4 + 7]]


BASE = {"initial_state": "mean", "gated_context": True, "deep_output": True}
PAPER = BASE | {"scalar_gate": True, "cell": "lstm"}
KINDS: dict[str, dict[str, Any]] = {
    "tutorial": {},
    "base": BASE,
    "tutorial with word query": {"word_query": True},
    "show-attend-tell": PAPER,
    "zero LSTM": {"cell": "lstm"},
    "hard": PAPER | {"attention_kind": "hard"},
    "hard GRU": {"attention_kind": "hard", "word_query": True},
    "sentinel": PAPER | {"sentinel": True, "word_query": True},
    "sentinel of a GRU": BASE | {"sentinel": True},
    "heads": PAPER | {"heads": 4},
    "heads of a GRU": {"heads": 2, "word_query": True},
}


def network(kind: str, **changes: Any) -> CaptioningNetwork:
    torch.manual_seed(0)
    sizes = {"memory": 24, "embedding": 16, "units": 16, "attention": 32}
    return CaptioningNetwork(NetworkConfig(30, 3, 3, 20, **KINDS[kind] | sizes | changes))


def batch() -> tuple[Tensor, Tensor]:
    """Features of 3 photographs, and captions of which one photograph has fewer."""
    torch.manual_seed(1)
    captions = torch.randint(4, 30, (3, 2, 8))
    for row, (first, second) in enumerate([(8, 5), (6, 6), (4, 0)]):
        captions[row, 0, first:] = 0
        captions[row, 1, second:] = 0
    return torch.rand(3, 9, 20), captions


@pytest.mark.parametrize("kind", KINDS)
def test_teaching_is_stepping_word_by_word(kind: str) -> None:
    model = network(kind).eval()
    features, captions = batch()
    with torch.no_grad():
        teacher = model.teach(features, captions)
        memory, keys, *state = model.start(features)
        state = [part.expand(-1, 2, -1) for part in state]
        sums = torch.zeros(3, 2, 9)
        expected, targets = [], []
        for time in range(7):
            log_probs, alpha, *state = model.step(captions[:, :, time], memory, keys, *state)
            torch.testing.assert_close(alpha.sum(-1), torch.ones(3, 2))
            there = captions[:, :, time + 1] != 0
            sums += alpha * there[..., None]
            expected.append(log_probs[there])
            targets.append(captions[:, :, time + 1][there])
    torch.testing.assert_close(teacher.logits.log_softmax(-1), torch.cat(expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(teacher.attention_sums, sums, rtol=0, atol=1e-5)
    assert teacher.targets.tolist() == torch.cat(targets).tolist()
    assert teacher.present.tolist() == [[True, True], [True, True], [True, False]]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("hard")])
def test_half_precision_keeps_the_loss_and_the_direction_of_the_gradient(kind: str) -> None:
    model = network(kind)
    features, captions = batch()
    losses, gradients = [], []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            teacher = model.teach(features, captions)
            logits = teacher.logits
        value = torch.nn.functional.cross_entropy(logits.float(), teacher.targets)
        value = value + (1 - teacher.attention_sums).square().mean()
        model.zero_grad()
        value.backward()
        losses.append(value.item())
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))  # type: ignore[union-attr]
    # bfloat16 has 8 bits: each product is right to 2^-9, and what is wrong averages out in sums.
    assert losses[1] == pytest.approx(losses[0], rel=2**-8)
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 1 - 2**-9


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = CheapDropout(0.3)
    values = torch.ones(401, 249, requires_grad=True)
    result = layer(values)
    kept = result != 0
    count = values.numel()
    deviation = (0.3 * 0.7 / count) ** 0.5
    assert float((~kept).float().mean()) == pytest.approx(0.3, abs=5 * deviation)
    assert result[kept].unique().tolist() == pytest.approx([1 / 0.7], rel=1e-4)
    # The four values that share a random number do not share their fate.
    shares = kept.flatten()[: count // 4 * 4].view(-1, 4).float()
    assert torch.corrcoef(shares.T).triu(1).abs().max() < 5 / (count / 4) ** 0.5
    result.sum().backward()
    torch.testing.assert_close(values.grad, result.detach())
    assert layer.eval()(values) is values
