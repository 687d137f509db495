"""Backpropagation through time of the decoder in compiled loops; see `fused_unroll`."""

from typing import Any

import torch
from torch import Tensor

from captionlens.network import attention_kernels, cell_kernels
from captionlens.network.attention import hard_weights
from captionlens.network.attention_kernels import Gradients
from captionlens.network.fused_forward import Saved, Tensors, filled
from captionlens.network.words import Words


class BackwardPass:
    """The backward pass: through time for the gradients of the states, then one product for each weight's gradient.

    Args:
        words, product: as in `ForwardPass`.
        saved: by the forward pass.
        d_states, d_contexts, d_alphas: gradients of the results.
    """

    def __init__(
        self,
        words: Words,
        product: torch.dtype,
        saved: Saved,
        d_states: Tensor,
        d_contexts: Tensor,
        d_alphas: Tensor,
    ) -> None:
        self.words, self.product, self.saved = words, product, saved
        before, self.wide = saved.before, saved.before.dtype
        count, total = len(words.flat), len(before)
        self.units, self.size = before.shape[1], saved.keys.shape[2]
        self.lstm = saved.memory_cells.shape[1] > 0
        self.narrow = product != self.wide
        self.scalar_gate = saved.gates.shape[1] == 1

        self.d_states = d_states.clone(memory_format=torch.contiguous_format)  # accumulates
        self.d_cells = torch.zeros_like(saved.memory_cells[0])
        self.d_inputs = filled(before, total, count, saved.context_weight.shape[0])
        self.d_from_state = filled(before, total, count, saved.state_weight.shape[0])
        self.d_ungated = before.new_empty(count, saved.ungated.shape[1])
        self.d_keys = torch.zeros_like(saved.keys)
        self.d_scores = before.new_zeros(len(saved.keys), self.size)
        self.narrow_inputs, self.narrow_from_state = self.d_inputs, self.d_from_state
        if self.narrow:
            self.narrow_inputs = filled(before, total, count, self.d_inputs.shape[1], product)
            self.narrow_from_state = filled(before, total, count, self.d_from_state.shape[1], product)
        if self.scalar_gate:
            d_contexts = d_contexts.clone(memory_format=torch.contiguous_format)  # is scaled in place

        self.d_contexts, self.d_alphas = d_contexts.contiguous().numpy(), d_alphas.contiguous().numpy()
        self.places, self.attention = saved.places(), saved.attention()
        self.gradients = Gradients(
            *(tensor.numpy() for tensor in (self.d_from_state, self.d_ungated, self.d_keys, self.d_scores))
        )

    def run(self, word_query: bool) -> Tensors:
        """Compute the gradients of all tensors; `word_query`: the attention's query reads the previous word."""
        saved, end = self.saved, len(self.words.flat)
        for time in reversed(range(len(self.words.slots))):
            begin = end - len(self.words.slots[time])
            rows = slice(begin, end)
            self._cell_backward(rows)
            if self.narrow:
                self.narrow_inputs[rows] = self.d_inputs[rows]
            d_context = torch.mm(self.narrow_inputs[rows], saved.context_weight).to(self.wide).numpy()
            self._attend_backward(time, begin, d_context)
            if self.narrow:
                self.narrow_from_state[rows] = self.d_from_state[rows]
            carried = torch.mm(self.narrow_from_state[rows], saved.state_weight).to(self.wide)
            if time:
                self._carry_backward(time, begin, carried)
            end = begin
        d_from_words = (
            torch.cat((self.d_from_state[:, : self.size], self.d_inputs), -1) if word_query else self.d_inputs
        )
        return Tensors(
            first=self._first_gradient(carried),
            memory=self._memory_gradient(),
            keys=self.d_keys.mul_(4 * saved.score),
            from_words=d_from_words,
            score=self.d_scores.sum(0).mul_(-2),
            state_weight=torch.mm(self.narrow_from_state.t(), saved.narrow_before),
            state_bias=self.d_from_state.sum(0),
            context_weight=torch.mm(self.narrow_inputs.t(), saved.narrow_contexts),
        )

    def _cell_backward(self, rows: slice) -> None:
        """Backpropagate through the cells, from the states of words to the cells' inputs."""
        cell, d_states = self.saved.cell.numpy(), self.d_states.numpy()
        results = self.d_inputs.numpy(), self.gradients.from_state
        if self.lstm:
            before, after = self.saved.memory_cells.numpy()
            cell_kernels.lstm_backward(
                rows.start, rows.stop, self.size, before, cell, after, d_states, self.d_cells.numpy(), *results
            )
        else:
            before = self.saved.before.numpy()
            cell_kernels.gru_backward(rows.start, rows.stop, self.size, before, cell, d_states, *results)

    def _attend_backward(self, time: int, begin: int, d_context: Any) -> None:
        """Backpropagate through the attention of a time step, from contexts to queries, gates and keys."""
        attention, words = self.attention, self.words
        if self.scalar_gate:
            attention_kernels.scalar_gate_backward(
                begin, attention.gates, attention.ungated, d_context, self.d_contexts, self.gradients.from_state
            )
            attention = attention._replace(gates=attention.gates[:, :0])
        starts = words.starts[time * words.photographs : (time + 1) * words.photographs + 1].numpy()
        attention_kernels.attend_backward(
            starts, self.places, self.saved.score.numpy(), attention, self.saved.chosen.numpy(),
            d_context, self.d_contexts, self.d_alphas, self.gradients,
        )  # fmt: skip

    def _carry_backward(self, time: int, begin: int, carried: Tensor) -> None:
        """Add the gradients of the previous states of a time step to those of the words before."""
        kept = (self.words.kept[time] + (begin - len(self.words.slots[time - 1]))).numpy()
        arrays = self.saved.cell.numpy(), carried.numpy(), self.d_states.numpy()
        if self.lstm:
            cell_kernels.lstm_carry_backward(begin, kept, *arrays, self.d_cells.numpy())
        else:
            cell_kernels.gru_carry_backward(begin, kept, *arrays)

    def _first_gradient(self, carried: Tensor) -> Tensor:
        """Gradient of the initial states (P, 1, S), each shared by a photograph's captions."""
        words, count = self.words, len(carried)
        gate = self.saved.cell[:count, self.units : 2 * self.units]  # update gate or forget gate
        if self.lstm:
            d_starts = torch.cat([carried, self.d_cells[:count] * gate], -1)
        else:
            d_starts = torch.addcmul(carried, self.d_states[:count], gate)
        d_first = carried.new_zeros(words.photographs, d_starts.shape[1])
        return d_first.index_add_(0, words.slots[0] // words.captions, d_starts)[:, None]

    def _memory_gradient(self) -> Tensor:
        """Gradient of the encoded places (P, L, M)."""
        alphas, chosen = self.saved.alphas, self.saved.chosen
        weights = hard_weights(alphas, chosen) if len(chosen) else alphas
        by_photograph = (
            self.words.padded(rows.to(self.product)).transpose(0, 1).flatten(1, 2) for rows in (weights, self.d_ungated)
        )
        alphas_there, d_ungated_there = by_photograph
        return torch.bmm(alphas_there.transpose(1, 2), d_ungated_there)
