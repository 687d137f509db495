"""One step of the decoder, attention and then the recurrent cell, and the weights that it reads."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from captionlens.network.attention import attention_scores, hard_weights, select_places, weighted_sum
from captionlens.network.cells import next_state


class SentinelWeights(NamedTuple):
    """Layers that make a key (A, H) and a value (M, H) of the visual sentinel."""

    key: Tensor
    value: Tensor


class DecoderWeights(NamedTuple):
    """The weights of a decoder step and how it attends; layers that read the same are stacked, for one product.

    Which cell it is, and whether there is a gate and of what kind, shows in the sizes: G is 3H in a GRU and 4H in an
    LSTM, whose state has S = 2H numbers.
    """

    score: Tensor  # of the attention (A,)
    # Of the word before, for the attention's query (A), if it takes part in it, the sentinel (H), if there is one, and
    # the cell (G): (..., E) and (...).
    word_weight: Tensor
    word_bias: Tensor
    # Of the hidden state, for the query (A), the cell (G), the sentinel (H), if there is one, and the gate (M, or 1 for
    # all of the context), if there is one: (..., H) and (...).
    state_weight: Tensor
    state_bias: Tensor
    context_weight: Tensor  # of the context, for the cell (G, M)
    sentinel: SentinelWeights | None = None
    hard: bool = False  # the context is one place, not the expected one
    heads: int = 1  # of the attention


def decoder_step(
    state: Tensor, from_word: Tensor, memory: Tensor, keys: Tensor, weights: DecoderWeights, draws: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Attend, then update the state: one word further for K captions of each of B photographs.

    Args:
        state: (B, K, S).
        from_word: the words before through `weights.word_weight` and `word_bias` (B, K, ...).
        memory: encoded places (B, L, M).
        keys: the places through the attention's memory layer (B, L, A).
        weights: of the decoder.
        draws: of hard attention (B, K); see `select_places`.

    Returns:
        the next state (B, K, S), the context (B, K, M), the attention (B, K, L), and with hard attention the chosen
        place (B, K), -1 where it is the expected one.
    """
    size, units, gates = keys.shape[-1], weights.state_weight.shape[1], weights.context_weight.shape[0]
    sentinel_size = 0 if weights.sentinel is None else units
    gate_size = weights.state_weight.shape[0] - size - gates - sentinel_size  # M, 1 or 0
    from_state = linear(state[..., :units], weights.state_weight, weights.state_bias)
    query, recurrent, sentinel_gate, gate = torch.split(from_state, [size, gates, sentinel_size, gate_size], -1)
    if from_word.shape[-1] > sentinel_size + gates:
        query = query + from_word[..., :size]
    scores = attention_scores(query, keys, weights.score, weights.heads).to(state.dtype)  # (B, K, heads, L)
    alpha = scores.softmax(-1)
    chosen = None
    place_weights = alpha
    if weights.hard:
        chosen = select_places(alpha[:, :, 0], draws)
        place_weights = hard_weights(alpha, chosen[:, :, None])
    context = weighted_sum(place_weights, memory)  # (B, K, M)
    if weights.sentinel is not None:
        # The sentinel comes from what the cell remembers: of an LSTM the memory cell, of a GRU its state.
        sentinel_gate = sentinel_gate + from_word[..., -gates - units : -gates]
        sentinel = torch.sigmoid(sentinel_gate) * torch.tanh(state[..., -units:])  # (B, K, H), Lu et al., (10)
        context = _with_sentinel(context, scores[:, :, 0], sentinel, query, weights.score, weights.sentinel)
    if gate.shape[-1]:
        context = torch.sigmoid(gate) * context
    inputs = linear(context, weights.context_weight) + from_word[..., -gates:]
    attention = alpha.mean(2) if weights.heads > 1 else alpha[:, :, 0]
    return next_state(inputs, recurrent, state), context, attention, chosen


def _with_sentinel(
    context: Tensor, scores: Tensor, sentinel: Tensor, query: Tensor, score: Tensor, weights: SentinelWeights
) -> Tensor:
    """The context (B, K, M) of an attention to the places and to the sentinel.

    Adaptive attention: Lu et al., "Knowing When to Look", CVPR 2017, equations (11) and (12).

    Args:
        context: of the places alone (B, K, M).
        scores: of the places, before the softmax (B, K, L).
        sentinel: (B, K, H).
        query: of the attention (B, K, A).
        score: the attention's score weights (A,).
        weights: of the sentinel.
    """
    key = linear(sentinel, weights.key)
    sentinel_score = torch.tanh(key + query) @ score.to(key.dtype)  # (B, K)
    # Softmax over the places and the sentinel together, in two parts: the places', and the sentinel's share.
    share = torch.sigmoid(sentinel_score.to(scores.dtype) - scores.logsumexp(-1))[..., None]
    return share * linear(sentinel, weights.value) + (1 - share) * context
