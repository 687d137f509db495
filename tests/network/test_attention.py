"""Kinds of attention against their definitions in a few lines."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from captionlens.errors import OptionError
from captionlens.network import NetworkConfig
from captionlens.network.decoder import DecoderWeights, SentinelWeights, decoder_step
from helpers.training import hard_network

UNITS, SIZE, MEMORY, PLACES = 5, 8, 6, 4


def arguments(*, guarded: bool) -> dict[str, Tensor]:
    """Random values of `stepped`: an LSTM, two photographs with three captions each, no gate."""
    torch.manual_seed(0)
    stacked = SIZE + 4 * UNITS + (UNITS if guarded else 0)
    shapes = {
        "state": (2, 3, 2 * UNITS), "from_word": (2, 3, stacked), "memory": (2, PLACES, MEMORY),
        "keys": (2, PLACES, SIZE), "score": (SIZE,), "state_weight": (stacked, UNITS), "state_bias": (stacked,),
        "context_weight": (4 * UNITS, MEMORY),
    }  # fmt: skip
    values = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    if guarded:  # the parts of the word are query, sentinel, cell; those of the state query, cell, sentinel
        assert values["from_word"].shape[-1] == SIZE + UNITS + 4 * UNITS
    return values


def stepped(values: dict[str, Tensor], draws: Tensor | None = None, **choices: Any) -> tuple[Any, ...]:
    """`decoder_step` on these values; the layers that read the word before have no part in it."""
    state, from_word, memory, keys, *stacked = values.values()
    score, state_weight, state_bias, context_weight = stacked
    none = torch.empty(0)
    weights = DecoderWeights(score, none, none, state_weight, state_bias, context_weight, **choices)
    return decoder_step(state, from_word, memory, keys, weights, draws)


def each_caption(values: dict[str, Tensor]) -> Any:
    """Photograph, caption, and the query of that caption's attention (A,)."""
    for photograph, caption in itertools.product(range(2), range(3)):
        hidden = values["state"][photograph, caption, :UNITS]
        query = linear(hidden, values["state_weight"][:SIZE], values["state_bias"][:SIZE])
        yield photograph, caption, query + values["from_word"][photograph, caption, :SIZE]


@pytest.mark.parametrize("heads", [1, 2])
def test_heads_attend_each_with_units_and_values_of_its_own(heads: int) -> None:
    values = arguments(guarded=False)
    _, contexts, alphas, _ = stepped(values, heads=heads)
    of_units, of_values = (torch.arange(size).chunk(heads) for size in (SIZE, MEMORY))
    for photograph, caption, query in each_caption(values):
        keys, memory = values["keys"][photograph], values["memory"][photograph]
        context, weights = [], []
        for units, part in zip(of_units, of_values, strict=True):
            scores = [values["score"][units] @ torch.tanh(keys[place, units] + query[units]) for place in range(PLACES)]
            weights.append(torch.stack(scores).softmax(0))
            context.append(weights[-1] @ memory[:, part])
        torch.testing.assert_close(contexts[photograph, caption], torch.cat(context))
        torch.testing.assert_close(alphas[photograph, caption], sum(weights) / heads)


def test_sentinel_is_one_more_place_and_the_attention_that_of_the_others() -> None:
    values = arguments(guarded=True)
    to_key, to_value = (torch.randn(size, UNITS, dtype=torch.float64) for size in (SIZE, MEMORY))
    _, contexts, alphas, _ = stepped(values, sentinel=SentinelWeights(to_key, to_value))
    for photograph, caption, query in each_caption(values):
        hidden, cell = values["state"][photograph, caption].chunk(2)
        guard = linear(hidden, values["state_weight"][-UNITS:], values["state_bias"][-UNITS:])
        guard = guard + values["from_word"][photograph, caption, SIZE : SIZE + UNITS]
        sentinel = torch.sigmoid(guard) * torch.tanh(cell)
        keys = torch.cat([values["keys"][photograph], (to_key @ sentinel)[None]])
        places = torch.cat([values["memory"][photograph], (to_value @ sentinel)[None]])
        weights = (torch.tanh(keys + query) @ values["score"]).softmax(0)  # (L + 1,)
        torch.testing.assert_close(contexts[photograph, caption], weights @ places)
        torch.testing.assert_close(alphas[photograph, caption], weights[:-1] / weights[:-1].sum())


def test_hard_attention_looks_at_the_strongest_place_unless_it_draws() -> None:
    values = arguments(guarded=False)
    _, contexts, alphas, chosen = stepped(values, hard=True)
    assert chosen is not None
    _, expected, soft, _ = stepped(values)
    torch.testing.assert_close(alphas, soft)
    for photograph, caption in itertools.product(range(2), range(3)):
        place = int(alphas[photograph, caption].argmax())
        assert chosen[photograph, caption] == place
        torch.testing.assert_close(contexts[photograph, caption], values["memory"][photograph, place])
    _, contexts, _, chosen = stepped(values, torch.full((2, 3), -1.0), hard=True)
    assert chosen is not None
    assert (chosen == -1).all()
    torch.testing.assert_close(contexts, expected)


def test_half_of_the_captions_see_the_expected_place_and_what_is_drawn_follows_the_seed() -> None:
    network = hard_network()
    captions = torch.randint(3, 6, (1, 400, 4))
    captions[:, :, 0] = 1
    taught = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        taught.append(network.teach(torch.ones(1, 3, 5), captions).chosen)
    first, second, third = taught
    assert first is not None and second is not None and third is not None
    assert first.equal(second)
    assert not first.equal(third)
    soft = (first == -1).view(3, 400)  # by time, then caption
    assert soft.all(0).equal(soft.any(0))  # a caption draws all its places, or none
    assert 140 < int(soft[0].sum()) < 260  # six standard deviations of a fair coin
    evaluated = network.eval().teach(torch.ones(1, 3, 5), captions)
    assert evaluated.chosen is not None
    assert evaluated.chosen.equal(evaluated.attention.argmax(-1))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"cell": "rnn"}, "cell must be gru or lstm, got 'rnn'"),
        ({"attention_kind": "firm"}, "attention_kind must be soft or hard, got 'firm'"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"heads": 3}, "heads must divide memory: 256 by 3"),
        ({"heads": 4, "attention": 10}, "heads must divide attention: 10 by 4"),
        ({"scalar_gate": True}, "needs gated_context"),
        ({"attention_kind": "hard", "heads": 2}, "neither heads nor sentinel"),
        ({"attention_kind": "hard", "sentinel": True}, "neither heads nor sentinel"),
        ({"sentinel": True, "heads": 2}, "one head only"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        NetworkConfig(10, 3, 3, 20, **choices)
