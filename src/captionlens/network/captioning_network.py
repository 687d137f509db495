"""The captioning network: grid encoder, additive attention, recurrent decoder and output layer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from captionlens.network.attention import AdditiveAttention
from captionlens.network.cells import Cell
from captionlens.network.decoder import DecoderWeights, SentinelWeights, decoder_step
from captionlens.network.dropout import CheapDropout
from captionlens.network.network_config import NetworkConfig
from captionlens.network.unroll import unroll
from captionlens.network.words import Words

ROWS = 32  # the words of a batch are padded to a multiple of this


@dataclass(frozen=True, slots=True)
class Teacher:
    """Result of teacher forcing on a batch of P photographs.

    `targets` (N,) and `attention` (N, L) are those of the N words that are not padding, of all captions together, in
    the order of `words`. `hidden` (R, X) is the input of `output_words`; its rows from N to R are padding.
    `attention_sums` (P, C, L) is the attention of each caption summed over its words, and `present` (P, C) masks the
    captions that are not padding. With hard attention, `chosen` (N,) is the place that each word attended to, or -1
    for the expected context.
    """

    hidden: Tensor
    output_words: nn.Linear
    targets: Tensor
    attention: Tensor
    attention_sums: Tensor
    present: Tensor
    words: Words
    chosen: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """Logits (N, V), computed on demand, since the loss does not need them."""
        logits: Tensor = self.output_words(self.hidden[: len(self.targets)])
        return logits


class CaptioningNetwork(nn.Module):
    """The captioning network: from grid features to captions, K per photograph, which share its encoded grid.

    Args:
        config: sizes and options.
        tail: the last blocks of the backbone, if they are trained too. Then `start` and `teach` take its input
            instead of grid features.
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
        self.cell = Cell(config.cell, context_size, config.embedding, config.units)
        self.dropout = CheapDropout(config.dropout)
        if config.positions:
            self.row_embedding = nn.Parameter(torch.randn(config.rows, 1, config.memory) * 0.1)
            self.column_embedding = nn.Parameter(torch.randn(1, config.columns, config.memory) * 0.1)
        if config.initial_state == "mean":
            self.initial_layer = nn.Linear(config.memory, config.units)
            if config.cell == "lstm":
                self.initial_cell_layer = nn.Linear(config.memory, config.units)
        if config.sentinel:
            # Lu et al., "Knowing When to Look", CVPR 2017, equation (9), and the layers of its key and value.
            self.sentinel_word_layer = nn.Linear(config.embedding, config.units, bias=False)
            self.sentinel_state_layer = nn.Linear(config.units, config.units)
            self.sentinel_key_layer = nn.Linear(config.units, config.attention, bias=False)
            self.sentinel_value_layer = nn.Linear(config.units, context_size, bias=False)
        if config.gated_context:
            self.gate_layer = nn.Linear(config.units, 1 if config.scalar_gate else context_size)
        if config.deep_output:
            hidden = config.embedding
            self.output_state = nn.Linear(config.units, hidden)
            self.output_context = nn.Linear(context_size, hidden, bias=False)
        else:
            hidden = config.units
            self.output_state = nn.Linear(config.units, hidden)
        self.output_words = nn.Linear(hidden, config.vocabulary)

    def start(self, features: Tensor) -> tuple[Tensor, ...]:
        """Encode photographs and make the initial state, once for all their captions.

        Args:
            features: grid features (B, L, D), of any floating type; with a tail, its input.

        Returns:
            memory (B, L, M), keys (B, L, A), and the initial state (B, 1, H); of an LSTM the initial memory cell
            (B, 1, H) too.
        """
        if not torch.is_autocast_enabled(features.device.type):  # autocast casts from half precision itself
            features = features.to(self.encoder.weight.dtype)
        if self.tail is not None:
            features = self.tail(features)
        memory = torch.relu(self.encoder(features))  # (B, L, M)
        if self.config.positions:
            memory = memory + (self.row_embedding + self.column_embedding).flatten(0, 1)
        memory = self.dropout(memory)
        keys = self.attention.keys(memory)  # (B, L, A)
        lstm = self.config.cell == "lstm"
        if self.config.initial_state == "mean":
            # "Show, Attend and Tell", section 3.1.2: a layer each for the hidden state and the memory cell.
            mean = memory.mean(1, keepdim=True)
            layers = [self.initial_layer, self.initial_cell_layer] if lstm else [self.initial_layer]
            state = [torch.tanh(layer(mean).float()) for layer in layers]
        else:
            zeros = torch.zeros(memory.shape[0], 1, self.config.units, device=memory.device)
            state = [zeros, zeros.clone()] if lstm else [zeros]
        return memory, keys, *state

    def decoder_weights(self) -> DecoderWeights:
        """The decoder's weights, stacked and cast (under autocast) once for many time steps."""
        word_weight, word_bias = self._word_layers()
        state_weight, state_bias = self._state_layers()
        sentinel = None
        if self.config.sentinel:
            sentinel = SentinelWeights(self.sentinel_key_layer.weight, self.sentinel_value_layer.weight)
        return DecoderWeights(
            score=self.attention.score_layer.weight[0],
            word_weight=word_weight,
            word_bias=word_bias,
            state_weight=state_weight,
            state_bias=state_bias,
            context_weight=self.cell.context_layer.weight,
            sentinel=sentinel,
            hard=self.config.attention_kind == "hard",
            heads=self.config.heads,
        )

    def step(
        self, tokens: Tensor, memory: Tensor, keys: Tensor, *state: Tensor, weights: DecoderWeights | None = None
    ) -> tuple[Tensor, ...]:
        """Decode one time step, for K captions per photograph. Hard attention takes the argmax.

        Args:
            tokens: the previous words (B, K).
            memory: of `start` (B, L, M).
            keys: of `start` (B, L, A).
            state: (B, K, H), and the memory cell of an LSTM (B, K, H).
            weights: of `decoder_weights`; by default they are made anew.

        Returns:
            Log-probabilities of the next word (B, K, V), the attention (B, K, L), and the next state, in the form of
            `state`.
        """
        weights = weights or self.decoder_weights()
        embedded = self.embedding(tokens)  # (B, K, E)
        from_word = linear(embedded, weights.word_weight, weights.word_bias)
        after, context, alpha, _ = decoder_step(torch.cat(state, -1), from_word, memory, keys, weights)
        state = torch.split(after, self.config.units, -1)
        logits = self.output_words(self.output_hidden(state[0], context, embedded))  # (B, K, V)
        return logits.float().log_softmax(-1), alpha, *state

    def teach(self, features: Tensor, captions: Tensor, inputs: Tensor | None = None) -> Teacher:
        """Apply teacher forcing: every word is predicted from the true previous words, or from those of `inputs`.

        Args:
            features: grid features (P, L, D).
            captions: (P, C, T) from `<start>` to `<end>`, padded with 0. Photographs with fewer captions have
                empty (all 0) rows. Fastest if a photograph's captions go from the longest to the shortest.
            inputs: (P, C, T), the previous words instead of those of `captions`.
        """
        memory, keys, *first = self.start(features)
        lengths = (captions[:, :, 1:] != 0).sum(-1)  # (P, C) words to predict
        words = Words.of(lengths)
        before = words.before(captions if inputs is None else inputs)  # (N,)
        # Padded, so that products have few sizes: the library compiles a product for each new size.
        before = pad(before, (0, -len(before) % ROWS))  # (R,)
        embedded = self.dropout(self.embedding(before))  # (R, E)
        weights = self.decoder_weights()
        # Projections that do not depend on the state are computed for all words at once.
        from_words = linear(embedded, weights.word_weight, weights.word_bias)
        draws = self._draws(words) if weights.hard and self.training else None
        unrolled = unroll(words, torch.cat(first, -1), memory, keys, from_words, weights, draws)
        return Teacher(
            hidden=self.output_hidden(unrolled.states, unrolled.contexts, embedded),
            output_words=self.output_words,
            targets=words.of_tokens(captions),
            attention=unrolled.attention,
            attention_sums=words.padded(unrolled.attention).sum(0),
            present=lengths > 0,
            words=words,
            chosen=unrolled.chosen,
        )

    def divide_logits(self, temperature: float) -> None:
        """Divide the logits by a temperature, in the weights: below 1, the distributions become sharper."""
        with torch.no_grad():
            for tensor in self.output_words.parameters():
                tensor.div_(temperature)

    def output_hidden(self, state: Tensor, context: Tensor, embedded: Tensor) -> Tensor:
        """Hidden layer of the output (..., X), from which `output_words` computes the logits of the next word.

        Args:
            state: the hidden state (..., H).
            context: (..., M).
            embedded: the previous word (..., E).
        """
        hidden = self.output_state(state)
        if self.config.deep_output:
            # "Show, Attend and Tell", equation (7), with a tanh as in Bahdanau's deep output.
            hidden = torch.tanh(hidden + self.output_context(context) + embedded)
        dropped: Tensor = self.dropout(hidden)
        return dropped

    @staticmethod
    def _draws(words: Words) -> Tensor:
        """Random numbers by which hard attention selects the place of each word (N,); see `attention.select_places`.

        Half of the captions get the expected context, which reduces the variance of the gradient ("Show, Attend and
        Tell", section 4.1).
        """
        draws = torch.rand(len(words.flat), device=words.flat.device)
        slots = words.photographs * words.captions
        expected = torch.rand(slots, device=draws.device) < 0.5
        return torch.where(expected[words.flat % slots], -1.0, draws)

    def _word_layers(self) -> tuple[Tensor, Tensor]:
        """Stacked weight and bias of all layers that read the previous word; the cell's alone has a bias."""
        weights = [self.cell.embedding_layer.weight]
        others = 0
        if self.config.sentinel:
            weights.insert(0, self.sentinel_word_layer.weight)
            others += self.config.units
        if self.config.word_query:
            weights.insert(0, self.word_query_layer.weight)
            others += self.config.attention
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        return weight, pad(self.cell.context_layer.bias, (others, 0))

    def _state_layers(self) -> tuple[Tensor, Tensor]:
        """Stacked weight and bias of all layers that read the state: one product per word instead of three."""
        layers = [self.attention.query_layer, self.cell.state_layer]
        if self.config.sentinel:
            layers.append(self.sentinel_state_layer)
        if self.config.gated_context:
            layers.append(self.gate_layer)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        if torch.is_autocast_enabled(weight.device.type):
            # Autocast caches the casts of parameters only; this tensor would be cast anew at each time step.
            dtype = torch.get_autocast_dtype(weight.device.type)
            return weight.to(dtype), bias.to(dtype)
        return weight, bias
