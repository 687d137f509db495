"""Captions drawn from the network word by word, many for each photograph: what self-critical training reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from captionlens.network.captioning_network import CaptioningNetwork
from captionlens.network.config import NetworkConfig

try:
    from captionlens.network import cell_kernels, kernels
except ImportError:  # Numba comes a little later than each new Python
    kernels = None  # type: ignore[assignment]

_UNLIKELY = -1e4  # added to a logit: a probability of 0, without the infinity that times 0 is no number


@dataclass(frozen=True, slots=True)
class Samples:
    """K captions for each of P photographs.

    `captions` (P, K, T) go from `start` to `end`, padded with 0; one that was cut has no end. `log_probs` (P, K, T - 1)
    are those of the words after the first, zero where there is padding.
    """

    captions: Tensor
    log_probs: Tensor


def without(layer: nn.Linear, forbidden: Sequence[int]) -> Tensor:
    """The bias of the layer that makes logits (V,), so that these words have no chance."""
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
    """Draw `count` captions for each photograph, each word from the network's distribution of it.

    Args:
        network: in evaluation mode.
        features: grid features (P, L, D).
        count: K.
        max_words: captions that did not end after so many words are cut.
        forbidden: words that are never drawn, the number of the padding, 0, among them.
        start: the number that captions start with.
        end: the number that ends them.
    """
    kind = features.device.type
    # Autocast would remember the casts it makes of weights, and they have no gradient here.
    with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind), cache_enabled=False):
        memory, keys, *states = network.start(features)
        packed = kernels is not None and kind == "cpu" and _can_be_packed(network.config)
        words = (_PackedWords if packed else _Words)(network, memory, keys, forbidden)
        photographs = len(memory)
        rows = torch.arange(photographs * count, device=features.device)  # captions that have not ended
        drawn: Tensor = torch.full((len(rows),), start, device=features.device)
        captions = [drawn]
        log_probs: list[Tensor] = []
        for time in range(max_words + 1):  # the end is a word too
            if time:
                logits, states = words(drawn, rows // count, states)
            else:  # the same for all captions of a photograph
                logits, states = words(drawn[::count], rows[:photographs], [state[:, 0] for state in states])
                logits, *states = (tensor.repeat_interleave(count, 0) for tensor in (logits, *states))
            drawn, log_prob = draw_words(logits)
            if time == max_words:
                drawn = torch.where(drawn == end, drawn, 0)  # no room for another word
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
    """A word of each distribution (n, V), by the inverse of its cumulative sum: one random number a word.

    Returns:
        the words (n,) and their log-probabilities (n,).
    """
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    sums = weights.cumsum(-1, dtype=torch.float64)
    places = torch.rand(len(sums), 1, dtype=torch.float64, device=sums.device) * sums[:, -1:]
    # The first whose sum is above: never one that adds nothing.
    words = torch.searchsorted(sums, places, right=True).clamp(max=sums.shape[-1] - 1)
    log_probs = weights.gather(-1, words).log() - sums[:, -1:].log().to(weights.dtype)
    return words.squeeze(-1), log_probs.squeeze(-1)


def _can_be_packed(config: NetworkConfig) -> bool:
    """Whether `_PackedWords` knows this kind of network."""
    soft = config.attention_kind == "soft" and config.heads == 1 and not config.sentinel
    return soft and config.cell == "gru" and not config.scalar_gate


class _Words:
    """One word further for any captions of any photographs, by `CaptioningNetwork.step`."""

    def __init__(self, network: CaptioningNetwork, memory: Tensor, keys: Tensor, forbidden: Sequence[int]) -> None:
        self.network, self.memory, self.keys = network, memory, keys
        self.layers = network.layers()
        self.chances = without(network.output_words, forbidden) - network.output_words.bias

    def __call__(self, tokens: Tensor, photographs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The words before (n,) of captions of `photographs` (n,), and their states, each (n, H).

        Returns:
            logits (n, V), in single precision at least, and the next states.
        """
        before = [state[:, None] for state in states]
        log_probs, _, *after = self.network.step(
            tokens[:, None], self.memory[photographs], self.keys[photographs], *before, layers=self.layers
        )
        return log_probs[:, 0] + self.chances, [state[:, 0] for state in after]


class _PackedWords:
    """The same as `_Words` on a processor: the attention of all captions in one pass, with no copies of the grids."""

    def __init__(self, network: CaptioningNetwork, memory: Tensor, keys: Tensor, forbidden: Sequence[int]) -> None:
        self.network = network
        self.wide = network.output_words.weight.dtype
        product = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.wide
        self.memory = memory.to(self.wide).contiguous()
        self.keys = keys.to(self.wide).clamp(-40, 40).mul_(2).exp_()  # see `kernels.look`
        self.product = product
        self.layers = [weights.to(product) for weights in network.layers()]
        self.context_weight = network.cell.context_layer.weight.to(product)
        self.output_weight = network.output_words.weight.to(product)
        self.output_bias = without(network.output_words, forbidden)
        self.score = network.attention.score_layer.weight[0].detach().numpy()

    def __call__(self, tokens: Tensor, photographs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `_Words`."""
        (state,) = states
        network, config, wide = self.network, self.network.config, self.wide
        word_weight, word_bias, state_weight, state_bias = self.layers
        with torch.autocast("cpu", enabled=False):
            embedded = network.embedding(tokens)
            from_words = linear(embedded.to(self.product), word_weight, word_bias).to(wide)
            from_state = linear(state.to(self.product), state_weight, state_bias).to(wide)
            count = len(tokens)
            queries = state.new_empty(count, config.attention)
            alphas = state.new_empty(count, self.keys.shape[1])
            contexts = state.new_empty(count, config.memory)
            gated = config.gated_context
            looked = torch.empty_like(contexts) if gated else contexts  # before the gate
            gates = state.new_empty(count, config.memory if gated else 0)
            arrays = (photographs, self.keys, self.memory)
            results = (queries, alphas, looked, gates, contexts)
            kernels.look(
                0,
                *(tensor.numpy() for tensor in arrays),
                self.score,
                from_state.numpy(),
                from_words.numpy(),
                *(tensor.numpy() for tensor in results),
            )
            moved = linear(contexts.to(self.product), self.context_weight).to(wide)
            cell, after = state.new_empty(count, 4 * config.units), torch.empty_like(state)
            cell_kernels.move(
                0,
                config.attention,
                *(tensor.numpy() for tensor in (moved, from_state, from_words, state.contiguous(), cell, after)),
            )
        hidden = network._before_words(after, contexts, embedded)
        with torch.autocast("cpu", enabled=False):
            logits = linear(hidden.to(self.product), self.output_weight).to(wide) + self.output_bias
        return logits, [after]
