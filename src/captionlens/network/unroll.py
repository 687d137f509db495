"""The decoder unrolled through time over the words of a batch, for teacher forcing."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captionlens.network import compiled_loops
from captionlens.network.decoder import DecoderWeights, decoder_step
from captionlens.network.fused_unroll import fused_unroll
from captionlens.network.words import Words

_Step = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor | None]]  # the signature of `decoder_step`


class Unrolled(NamedTuple):
    """Results of the decoder for N words; rows from N to R are padded with zeros.

    Hidden states (R, H), contexts (R, M), attention (N, L), and with hard attention the chosen places (N,), -1 for the
    expected context.
    """

    states: Tensor
    contexts: Tensor
    attention: Tensor
    chosen: Tensor | None


def unroll(
    words: Words,
    first: Tensor,
    memory: Tensor,
    keys: Tensor,
    from_words: Tensor,
    weights: DecoderWeights,
    draws: Tensor | None = None,
) -> Unrolled:
    """Run the decoder over all words, fused where supported (`compiled_loops.serve`), else by autograd.

    The fused form cannot be differentiated twice. Under autocast the products are in its type; the states, the inside
    of the attention and all sums over time are in the type of `first`.

    Args:
        words: the N words of the batch.
        first: the initial states (P, 1, S).
        memory, keys: as in `decoder_step`, of P photographs.
        from_words: the previous words, projected by `weights.word_weight` and `word_bias` (R, ...).
        weights: of the decoder.
        draws: of each word (N,), as in `decoder_step`.
    """
    if not compiled_loops.serve(first, heads=weights.heads, sentinel=weights.sentinel is not None):
        return unroll_by_autograd(words, first, memory, keys, from_words, weights, draws)
    if weights.hard and draws is None:
        draws = first.new_ones(len(words.flat))  # selects the argmax
    states, contexts, alphas, chosen = fused_unroll(words, first, memory, keys, from_words, weights, draws)
    return Unrolled(states, contexts, alphas, chosen if weights.hard else None)


def unroll_by_autograd(
    words: Words,
    first: Tensor,
    memory: Tensor,
    keys: Tensor,
    from_words: Tensor,
    weights: DecoderWeights,
    draws: Tensor | None = None,
) -> Unrolled:
    """Run the same as `unroll`, one `decoder_step` after the other, differentiated by PyTorch.

    On a GPU, PyTorch's compiler fuses each step; `TORCHDYNAMO_DISABLE=1` in the environment turns it off.
    """
    step = _compiled_step() if first.device.type == "cuda" else decoder_step
    state = first.expand(-1, words.captions, -1).flatten(0, 1)[words.slots[0]]
    results = []
    begin = 0
    for time, slots in enumerate(words.slots):
        if time:
            state = state[words.kept[time]]
        rows = slice(begin, begin + len(slots))
        photograph = slots // words.captions
        # Each word is treated as the only caption of a photograph.
        *moved, chosen = step(
            state[:, None],
            from_words[rows, None],
            memory[photograph],
            keys[photograph],
            weights,
            None if draws is None else draws[rows, None],
        )
        state = moved[0].squeeze(1)
        results.append([part.squeeze(1) for part in (*moved, *([chosen] if chosen is not None else []))])
        begin = rows.stop
    states, contexts, alphas, *places = (torch.cat(parts) for parts in zip(*results, strict=True))
    fill = (0, 0, 0, len(from_words) - begin)
    states = nn.functional.pad(states[:, : weights.state_weight.shape[1]], fill)
    return Unrolled(states, nn.functional.pad(contexts, fill), alphas, places[0] if places else None)


@cache
def _compiled_step() -> _Step:
    """`decoder_step` compiled by PyTorch, or as it is where that is not possible."""
    torch._dynamo.config.suppress_errors = True  # no Triton, say
    compiled: _Step = torch.compile(decoder_step, dynamic=True)
    return compiled
