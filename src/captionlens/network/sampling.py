"""Sampling of captions from the network, many per photograph, for self-critical training."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from captionlens.network import attention_kernels, cell_kernels, compiled_loops
from captionlens.network.attention_kernels import Attention, Places, exponentials_of_keys
from captionlens.network.captioning_network import CaptioningNetwork

_UNLIKELY = -1e4  # added to a logit for a probability of 0, finite because infinity times 0 is NaN


@dataclass(frozen=True, slots=True)
class Samples:
    """K sampled captions of each of P photographs.

    `captions` (P, K, T) go from `start` to `end`, padded with 0; one that was cut has no end. `log_probs` (P, K, T - 1)
    are those of the tokens after `start`, zero for padding.
    """

    captions: Tensor
    log_probs: Tensor


def without(layer: nn.Linear, forbidden: Sequence[int]) -> Tensor:
    """Bias (V,) of the layer that computes the logits, changed so that these words get probability 0."""
    chances = torch.zeros_like(layer.bias)
    chances[list(forbidden)] = _UNLIKELY
    return layer.bias + chances


@torch.no_grad()
def sample(
    network: CaptioningNetwork,
    features: Tensor,
    count: int,
    *,
    max_words: int,
    forbidden: Sequence[int],
    start: int,
    end: int,
) -> Samples:
    """Sample `count` captions of each photograph, word by word from the network's distribution.

    Args:
        network: in evaluation mode.
        features: grid features (P, L, D).
        count: K.
        max_words: captions without an end after so many words are cut.
        forbidden: indices of words that are never sampled, among them that of the padding, 0.
        start: index of `<start>`.
        end: index of `<end>`.
    """
    kind = features.device.type
    # Autocast would cache its casts of the weights, which have no gradient here.
    with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False):
        memory, keys, *states = network.start(features)
        step = (_FusedStep if _can_be_fused(network, keys) else _PlainStep)(network, memory, keys, forbidden)
        photographs = len(memory)
        rows = torch.arange(photographs * count, device=features.device)  # captions that have not ended
        drawn: Tensor = torch.full((len(rows),), start, device=features.device)
        captions = [drawn]
        log_probs: list[Tensor] = []
        for time in range(max_words + 1):  # one more step for <end>
            if time:
                logits, states = step(drawn, rows // count, states)
            else:  # the initial state is the same for all captions of a photograph
                logits, states = step(drawn[::count], rows[:photographs], [state[:, 0] for state in states])
                logits, *states = (tensor.repeat_interleave(count, 0) for tensor in (logits, *states))
            drawn, log_prob = draw_words(logits)
            if time == max_words:
                drawn = torch.where(drawn == end, drawn, 0)  # the length limit is reached
                log_prob = torch.where(drawn == end, log_prob, 0)
            captions.append(drawn.new_zeros(photographs * count).index_copy(0, rows, drawn))
            log_probs.append(log_prob.new_zeros(photographs * count).index_copy(0, rows, log_prob))
            there = (drawn != end).nonzero().squeeze(1)
            if not len(there):
                break
            rows, drawn, states = rows[there], drawn[there], [state[there] for state in states]
    shape = photographs, count, -1
    return Samples(torch.stack(captions, -1).view(shape), torch.stack(log_probs, -1).view(shape))


def draw_words(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Sample a word from each row of logits (n, V) by inverting the cumulative distribution, with one random number.

    Returns:
        The words (n,) and their log-probabilities (n,).
    """
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    sums = weights.cumsum(-1, dtype=torch.float64)
    places = torch.rand(len(sums), 1, dtype=torch.float64, device=sums.device) * sums[:, -1:]
    # The first word whose cumulative sum is above the random number, which is never one of probability 0.
    words = torch.searchsorted(sums, places, right=True).clamp(max=sums.shape[-1] - 1)
    log_probs = weights.gather(-1, words).log() - sums[:, -1:].log().to(weights.dtype)
    return words.squeeze(-1), log_probs.squeeze(-1)


def _can_be_fused(network: CaptioningNetwork, keys: Tensor) -> bool:
    """Whether `_FusedStep` supports this network."""
    config = network.config
    known = config.cell == "gru" and config.attention_kind == "soft" and not config.scalar_gate
    return known and compiled_loops.serve(keys, heads=config.heads, sentinel=config.sentinel)


class _PlainStep:
    """One time step of any captions of any photographs, by `CaptioningNetwork.step`."""

    def __init__(self, network: CaptioningNetwork, memory: Tensor, keys: Tensor, forbidden: Sequence[int]) -> None:
        self.network, self.memory, self.keys = network, memory, keys
        self.weights = network.decoder_weights()
        self.chances = without(network.output_words, forbidden) - network.output_words.bias

    def __call__(self, tokens: Tensor, photographs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits (n, V), in single precision at least, and the next states.

        Args:
            tokens: the previous words (n,).
            photographs: index of each caption's photograph (n,).
            states: each (n, H).
        """
        before = [state[:, None] for state in states]
        log_probs, _, *after = self.network.step(
            tokens[:, None], self.memory[photographs], self.keys[photographs], *before, weights=self.weights
        )
        return log_probs[:, 0] + self.chances, [state[:, 0] for state in after]


class _FusedStep:
    """The same as `_PlainStep` in compiled loops on a processor: no grid is copied for its captions."""

    def __init__(self, network: CaptioningNetwork, memory: Tensor, keys: Tensor, forbidden: Sequence[int]) -> None:
        self.network = network
        self.wide = network.output_words.weight.dtype
        self.product = compiled_loops.product_type(network.output_words.weight)
        self.places = Places(
            exponentials_of_keys(keys.to(self.wide)).numpy(), memory.to(self.wide).contiguous().numpy()
        )
        weights = network.decoder_weights()
        self.score = weights.score.detach().numpy()
        self.weights = weights._replace(
            word_weight=weights.word_weight.to(self.product),
            word_bias=weights.word_bias.to(self.product),
            state_weight=weights.state_weight.to(self.product),
            state_bias=weights.state_bias.to(self.product),
            context_weight=weights.context_weight.to(self.product),
        )
        self.output_weight = network.output_words.weight.to(self.product)
        self.output_bias = without(network.output_words, forbidden)

    def __call__(self, tokens: Tensor, photographs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `_PlainStep`."""
        (state,) = states
        with torch.autocast("cpu", enabled=False):
            embedded = self.network.embedding(tokens)
            context, after = self._decode(embedded, photographs, state)
        hidden = self.network.output_hidden(after, context, embedded)
        with torch.autocast("cpu", enabled=False):
            logits = linear(hidden.to(self.product), self.output_weight).to(self.wide) + self.output_bias
        return logits, [after]

    def _decode(self, embedded: Tensor, photographs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Contexts (n, M) and next states (n, H), from the previous words (n, E) and the states (n, H)."""
        weights, config, wide = self.weights, self.network.config, self.wide
        from_words = linear(embedded.to(self.product), weights.word_weight, weights.word_bias).to(wide).numpy()
        from_state = linear(state.to(self.product), weights.state_weight, weights.state_bias).to(wide).numpy()
        count, gated = len(state), config.gated_context
        contexts = state.new_empty(count, config.memory)
        attention = Attention(
            queries=state.new_empty(count, config.attention).numpy(),
            alphas=state.new_empty(count, self.places.keys.shape[1]).numpy(),
            ungated=(torch.empty_like(contexts) if gated else contexts).numpy(),
            gates=state.new_empty(count, config.memory if gated else 0).numpy(),
        )
        attention_kernels.attend(
            0, photographs.numpy(), self.places, self.score, from_state, from_words, attention, contexts.numpy()
        )
        from_context = linear(contexts.to(self.product), weights.context_weight).to(wide).numpy()
        cell, after = state.new_empty(count, 4 * config.units), torch.empty_like(state)
        arrays = (tensor.numpy() for tensor in (state.contiguous(), cell, after))
        cell_kernels.gru_step(0, config.attention, from_context, from_state, from_words, *arrays)
        return contexts, after
