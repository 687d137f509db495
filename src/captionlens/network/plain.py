"""The decoder in plain autograd: one word further, and teacher forcing through time."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from captionlens.network.attention import attended, chosen_places, hard_weights, scores_of
from captionlens.network.cells import next_state
from captionlens.network.words import Words

Advance = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor | None]]  # as `advance`


def advance(
    state: Tensor,
    from_word: Tensor,
    memory: Tensor,
    keys: Tensor,
    score: Tensor,
    state_weight: Tensor,
    state_bias: Tensor,
    context_weight: Tensor,
    *,
    hard: bool = False,
    draws: Tensor | None = None,
    heads: int = 1,
    sentinel: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Look, then move: one word further for K captions of each of B photographs.

    Which cell it is, and whether there is a gate and of what kind, shows in the sizes: G is 3H in a GRU and 4H in an
    LSTM, whose state has S = 2H numbers.

    Args:
        state: (B, K, S).
        from_word: what the words before give to the attention's query (A), if it is asked for, to the sentinel (H),
            if there is one, and to the cell (G), its bias included, side by side (B, K, ...).
        memory: encoded places (B, L, M).
        keys: the places through the attention's memory layer (B, L, A).
        score: the attention's score weights (A,).
        state_weight, state_bias: the layers that read the hidden state, stacked: the attention's query (A), the cell
            (G), the sentinel (H), if there is one, and, if the context is gated, the gate (M, or 1 for all of it).
        context_weight: of the context into the cell (G, M).
        hard: the context is one place, not the expected one.
        draws: of hard attention (B, K); see `chosen_places`.
        heads: of the attention.
        sentinel: adaptive attention (Lu et al., "Knowing When to Look", CVPR 2017): weights that make a key (A, H)
            and a value (M, H) of the visual sentinel.

    Returns:
        the next state (B, K, S), the context (B, K, M), the attention (B, K, L), and with hard attention the chosen
        place (B, K), -1 where it is the expected one.
    """
    size, units, gates = keys.shape[-1], state_weight.shape[1], context_weight.shape[0]
    extra = 0 if sentinel is None else units
    from_state = nn.functional.linear(state[..., :units], state_weight, state_bias)
    query, recurrent, guard, gate = torch.split(
        from_state, [size, gates, extra, state_weight.shape[0] - size - gates - extra], -1
    )
    if from_word.shape[-1] > extra + gates:
        query = query + from_word[..., :size]
    scores = scores_of(query, keys, score, heads).to(state.dtype)  # (B, K, heads, L)
    alpha = scores.softmax(-1)
    chosen = None
    weights = alpha
    if hard:
        chosen = chosen_places(alpha[:, :, 0], draws)
        weights = hard_weights(alpha, chosen[:, :, None])
    context = attended(weights, memory)  # (B, K, M)
    if sentinel is not None:
        # The sentinel comes from what the cell remembers: of an LSTM the memory cell, of a GRU its state.
        seen = guard + from_word[..., -gates - units : -gates]
        value = torch.sigmoid(seen) * torch.tanh(state[..., -units:])  # (B, K, H), Lu et al., equation (10)
        to_key, to_value = sentinel
        key = nn.functional.linear(value, to_key)
        own = torch.tanh(key + query) @ score.to(key.dtype)  # (B, K)
        # Softmax over the places and the sentinel together, in two parts: the places', and the sentinel's share.
        share = torch.sigmoid(own.to(state.dtype) - scores[:, :, 0].logsumexp(-1))[..., None]
        context = share * nn.functional.linear(value, to_value) + (1 - share) * context
    if gate.shape[-1]:
        context = torch.sigmoid(gate) * context
    moved = nn.functional.linear(context, context_weight) + from_word[..., -gates:]
    return next_state(moved, recurrent, state), context, alpha.mean(2) if heads > 1 else alpha[:, :, 0], chosen


def unroll_plainly(
    words: Words,
    first: Tensor,
    memory: Tensor,
    keys: Tensor,
    from_words: Tensor,
    score: Tensor,
    state_weight: Tensor,
    state_bias: Tensor,
    context_weight: Tensor,
    *,
    hard: bool = False,
    draws: Tensor | None = None,
    heads: int = 1,
    sentinel: tuple[Tensor, Tensor] | None = None,
    word: Advance = advance,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Hidden states (R, H), contexts (R, M) and attention (N, L) of all words, and with hard attention places (N,).

    Args:
        words: which N words there are; rows from N to R only fill up, with zeros in the results.
        first: the initial states (P, 1, S).
        memory, keys, score, state_weight, state_bias, context_weight: as in `advance`, of P photographs.
        from_words: what the words before give, as in `advance` (R, ...).
        hard, heads, sentinel: as in `advance`.
        draws: of each word (N,), as in `advance`.
        word: does what `advance` does.
    """
    state = first.expand(-1, words.captions, -1).flatten(0, 1)[words.slots[0]]
    results = []
    begin = 0
    for time, slots in enumerate(words.slots):
        if time:
            state = state[words.kept[time]]
        rows = slice(begin, begin + len(slots))
        photograph = slots // words.captions
        # Each word is a photograph's only one here.
        *moved, chosen = word(
            state[:, None],
            from_words[rows, None],
            memory[photograph],
            keys[photograph],
            score,
            state_weight,
            state_bias,
            context_weight,
            hard=hard,
            draws=None if draws is None else draws[rows, None],
            heads=heads,
            sentinel=sentinel,
        )
        state = moved[0].squeeze(1)
        results.append([part.squeeze(1) for part in (*moved, *([chosen] if chosen is not None else []))])
        begin = rows.stop
    states, contexts, alphas, *places = (torch.cat(parts) for parts in zip(*results, strict=True))
    fill = (0, 0, 0, len(from_words) - begin)
    states = nn.functional.pad(states[:, : state_weight.shape[1]], fill)
    return states, nn.functional.pad(contexts, fill), alphas, places[0] if places else None
