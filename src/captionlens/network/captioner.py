"""The captioning network: an encoder of the places, additive attention, a GRU decoder, an output layer."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captionlens.network.attention import AdditiveAttention
from captionlens.network.config import NetworkConfig
from captionlens.network.dropout import CheapDropout
from captionlens.network.recurrence import Words, next_state, unroll

ROWS = 32  # the words of a batch are filled up to a multiple


@dataclass(frozen=True, slots=True)
class Teacher:
    """What teacher forcing yields for a batch of P photographs.

    `targets` (N,) and `attention` (N, L) are of the N words that are not padding, all captions together. `hidden`
    (R, X) is what `output_words` makes the words' logits of; its rows from N to R only fill up. `attention_sums`
    (P, C, L) is the attention of each caption's words summed over time, and `present` (P, C) tells the captions that
    are there from those that only fill the batch. `there` (T, P, C) tells for each time of each caption whether it has
    a word to predict: the N words are those, in that order.
    """

    hidden: Tensor
    output_words: nn.Linear
    targets: Tensor
    attention: Tensor
    attention_sums: Tensor
    present: Tensor
    there: Tensor

    @property
    def logits(self) -> Tensor:
        """(N, V), made when asked for: the loss does without."""
        logits: Tensor = self.output_words(self.hidden[: len(self.targets)])
        return logits


class Layers(NamedTuple):
    """Weights that every word goes through, stacked: what reads the word before, and what reads the state."""

    word_weight: Tensor
    state_weight: Tensor
    state_bias: Tensor


class GRUCell(nn.Module):
    """A gated recurrent unit (Cho et al., EMNLP 2014, in the form of cuDNN: reset after the product)."""

    def __init__(self, context_size: int, embedding_size: int, units: int) -> None:
        super().__init__()
        self.context_layer = nn.Linear(context_size, 3 * units)
        self.embedding_layer = nn.Linear(embedding_size, 3 * units, bias=False)
        self.state_layer = nn.Linear(units, 3 * units)


class CaptioningNetwork(nn.Module):
    """Grid features to captions, K of them at a time for each photograph, which share its encoded grid.

    Args:
        config: its sizes and choices.
        tail: makes the grid features of what `start` and `teach` are given, if these come from earlier in the
            backbone; trained with the rest.
    """

    def __init__(self, config: NetworkConfig, tail: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.tail = tail
        context_size = config.memory
        self.encoder = nn.Linear(config.channels, config.memory)
        self.embedding = nn.Embedding(config.vocabulary, config.embedding, padding_idx=0)
        self.attention = AdditiveAttention(config.memory, config.units, config.attention)
        if config.word_query:
            self.word_query_layer = nn.Linear(config.embedding, config.attention, bias=False)
        self.cell = GRUCell(context_size, config.embedding, config.units)
        self.dropout = CheapDropout(config.dropout)
        if config.positions:
            self.row_embedding = nn.Parameter(torch.randn(config.rows, 1, config.memory) * 0.1)
            self.column_embedding = nn.Parameter(torch.randn(1, config.columns, config.memory) * 0.1)
        if config.initial_state == "mean":
            self.initial_layer = nn.Linear(config.memory, config.units)
        if config.gated_context:
            self.gate_layer = nn.Linear(config.units, context_size)
        if config.deep_output:
            hidden = config.embedding
            self.output_state = nn.Linear(config.units, hidden)
            self.output_context = nn.Linear(context_size, hidden, bias=False)
        else:
            hidden = config.units
            self.output_state = nn.Linear(config.units, hidden)
        self.output_words = nn.Linear(hidden, config.vocabulary)

    def start(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode photographs, once for all their captions.

        Args:
            features: grid features (B, L, D), of any floating type; with a tail, what that takes.

        Returns:
            memory (B, L, M), keys (B, L, A), and the initial state (B, 1, H).
        """
        if not torch.is_autocast_enabled(features.device.type):  # which casts from half precision in one go
            features = features.to(self.encoder.weight.dtype)
        if self.tail is not None:
            features = self.tail(features)
        memory = torch.relu(self.encoder(features))  # (B, L, M)
        if self.config.positions:
            memory = memory + (self.row_embedding + self.column_embedding).flatten(0, 1)
        memory = self.dropout(memory)
        keys = self.attention.keys(memory)  # (B, L, A)
        if self.config.initial_state == "mean":
            state = torch.tanh(self.initial_layer(memory.mean(1, keepdim=True)).float())
        else:
            state = torch.zeros(memory.shape[0], 1, self.config.units, device=memory.device)
        return memory, keys, state

    def layers(self) -> Layers:
        """What `step` makes of the weights before it uses them; made once, it serves for many words."""
        return Layers(self._word_layers(), *self._state_layers())

    def step(
        self, tokens: Tensor, memory: Tensor, keys: Tensor, state: Tensor, *, layers: Layers | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One word further, for K captions a photograph.

        Args:
            tokens: the words before (B, K).
            memory: (B, L, M), keys: (B, L, A), both as `start` gave them.
            state: (B, K, H).
            layers: as `layers` gives them; by default they are made anew.

        Returns:
            log-probabilities of the next word (B, K, V), the attention (B, K, L), the next state (B, K, H).
        """
        layers = layers or self.layers()
        embedded = self.embedding(tokens)  # (B, K, E)
        from_word = nn.functional.linear(embedded, layers.word_weight)
        state, context, alpha = self._advance(from_word, memory, keys, state, (layers.state_weight, layers.state_bias))
        logits = self.output_words(self._before_words(state, context, embedded))  # (B, K, V)
        return logits.float().log_softmax(-1), alpha, state

    def teach(self, features: Tensor, captions: Tensor, inputs: Tensor | None = None) -> Teacher:
        """Teacher forcing: every word predicted from the true words before it, or from those of `inputs`.

        Args:
            features: grid features (P, L, D).
            captions: (P, C, T) from `<start>` to `<end>`, padded with 0. Photographs with fewer captions have
                empty (all 0) rows. Fastest if a photograph's captions go from the longest to the shortest.
            inputs: (P, C, T), read as the words before instead of `captions`.
        """
        memory, keys, first = self.start(features)
        lengths = (captions[:, :, 1:] != 0).sum(-1)  # (P, C) words to predict
        words = Words.of(lengths)
        by_time = captions.permute(2, 0, 1)  # (T, P, C)
        steps = len(words.there)
        read = by_time if inputs is None else inputs.permute(2, 0, 1)
        before, targets = read[:steps][words.there], by_time[1 : steps + 1][words.there]  # (N,)
        # Filled up, so that products have few sizes: the library compiles a product for each new size.
        before = nn.functional.pad(before, (0, -len(before) % ROWS))  # (R,)
        embedded = self.dropout(self.embedding(before))  # (R, E)
        # What does not depend on the state is computed for all words at once.
        query_size = self.config.attention if self.config.word_query else 0
        bias = nn.functional.pad(self.cell.context_layer.bias, (query_size, 0))
        from_words = nn.functional.linear(embedded, self._word_layers(), bias)
        states, contexts, alphas = unroll(
            words,
            first,
            memory,
            keys,
            from_words,
            self.attention.score_layer.weight[0],
            *self._state_layers(),
            self.cell.context_layer.weight,
        )
        hidden = self._before_words(states, contexts, embedded)  # (R, X)
        sums = words.padded(alphas).sum(0)
        return Teacher(hidden, self.output_words, targets, alphas, sums, lengths > 0, words.there)

    def _word_layers(self) -> Tensor:
        """Weights of all layers that read the word before, stacked."""
        weight: Tensor = self.cell.embedding_layer.weight
        return torch.cat([self.word_query_layer.weight, weight]) if self.config.word_query else weight

    def _state_layers(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of all layers that read the state, stacked: one product a word instead of three."""
        layers = [self.attention.query_layer, self.cell.state_layer]
        if self.config.gated_context:
            layers.append(self.gate_layer)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        if torch.is_autocast_enabled(weight.device.type):
            # Autocast remembers the cast of parameters only; this one would be cast anew each word.
            dtype = torch.get_autocast_dtype(weight.device.type)
            return weight.to(dtype), bias.to(dtype)
        return weight, bias

    def _advance(
        self,
        from_word: Tensor,
        memory: Tensor,
        keys: Tensor,
        state: Tensor,
        layers: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Look, then move: the next state (B, K, H), the context (B, K, M), the attention (B, K, L)."""
        weight, bias = layers
        from_state = nn.functional.linear(state.to(weight.dtype), weight, bias)
        sizes = [self.config.attention, 3 * self.config.units]
        if self.config.gated_context:
            sizes.append(self.config.memory)
        query, recurrent, *gate = torch.split(from_state, sizes, -1)
        if self.config.word_query:
            from_query, from_word = torch.split(from_word, sizes[:2], -1)
            query = query + from_query
        context, alpha = self.attention(query, memory, keys)
        if gate:
            context = torch.sigmoid(gate[0]) * context
        state = next_state(self.cell.context_layer(context) + from_word, recurrent, state)
        return state, context, alpha

    def _before_words(self, state: Tensor, context: Tensor, embedded: Tensor) -> Tensor:
        """What the logits of the next word are made of (..., X)."""
        hidden = self.output_state(state)
        if self.config.deep_output:
            # "Show, Attend and Tell", equation (7), with a tanh as in Bahdanau's deep output.
            hidden = torch.tanh(hidden + self.output_context(context) + embedded)
        dropped: Tensor = self.dropout(hidden)
        return dropped
