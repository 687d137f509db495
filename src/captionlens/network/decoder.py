"""One time step of the decoder, attention followed by the recurrent cell, and the weights that it reads."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from captionlens.network.attention import attention_scores, hard_weights, select_places, weighted_sum
from captionlens.network.cells import next_state


class SentinelWeights(NamedTuple):
    """Layers that project the visual sentinel to a key (A, H) and a value (M, H)."""

    key: Tensor
    value: Tensor


class DecoderWeights(NamedTuple):
    """Weights and attention options of a decoder step; layers with the same input are stacked into one product.

    The sizes imply the kind of cell and of gate: G is 3H in a GRU and 4H in an LSTM, whose state has S = 2H numbers.
    """

    score: Tensor  # of the attention (A,)
    # Projections of the previous word, stacked: to the attention's query (A), if it reads the word; to the sentinel
    # (H), if there is one; and to the cell (G). Weight (..., E) and bias (...).
    word_weight: Tensor
    word_bias: Tensor
    # Projections of the hidden state, stacked: to the query (A); to the cell (G); to the sentinel (H), if there is one;
    # and to the gate (M, or 1 for a scalar gate), if there is one. Weight (..., H) and bias (...).
    state_weight: Tensor
    state_bias: Tensor
    context_weight: Tensor  # projection of the context to the cell (G, M)
    sentinel: SentinelWeights | None = None
    hard: bool = False  # the context is a single place, not the expected one
    heads: int = 1  # of the attention


def decoder_step(
    state: Tensor, from_word: Tensor, memory: Tensor, keys: Tensor, weights: DecoderWeights, draws: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Attend, then update the state: one time step for K captions of each of B photographs.

    Args:
        state: (B, K, S).
        from_word: the previous words, projected by `weights.word_weight` and `word_bias` (B, K, ...).
        memory: encoded places (B, L, M).
        keys: of the memory, see `AdditiveAttention.keys` (B, L, A).
        weights: of the decoder.
        draws: of hard attention (B, K); see `select_places`.

    Returns:
        The next state (B, K, S), the context (B, K, M), the attention (B, K, L), and with hard attention the chosen
        place (B, K), -1 for the expected context.
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
        # The sentinel is made from the memory cell of an LSTM, or the state of a GRU.
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
    """Context (B, K, M) of attention over the places and the sentinel.

    Adaptive attention: Lu et al., "Knowing When to Look", CVPR 2017, equations (11) and (12).

    Args:
        context: of the places alone (B, K, M).
        scores: of the places before the softmax (B, K, L).
        sentinel: (B, K, H).
        query: of the attention (B, K, A).
        score: the attention's score weights (A,).
        weights: of the sentinel.
    """
    key = linear(sentinel, weights.key)
    sentinel_score = torch.tanh(key + query) @ score.to(key.dtype)  # (B, K)
    # A softmax over places and sentinel together, in two parts: that over the places, and the sentinel's share.
    share = torch.sigmoid(sentinel_score.to(scores.dtype) - scores.logsumexp(-1))[..., None]
    return share * linear(sentinel, weights.value) + (1 - share) * context
