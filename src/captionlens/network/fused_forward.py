"""Forward pass of the decoder over all time steps in compiled loops; see `fused_unroll`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captionlens.network import attention_kernels, cell_kernels
from captionlens.network.attention_kernels import Attention, Places, exponentials_of_keys
from captionlens.network.words import Words


class Tensors(NamedTuple):
    """The tensors with a gradient, as the flat arguments that autograd requires; their gradients in the same order."""

    first: Tensor
    memory: Tensor
    keys: Tensor
    from_words: Tensor
    score: Tensor
    state_weight: Tensor
    state_bias: Tensor
    context_weight: Tensor


class Saved(NamedTuple):
    """The tensors that the forward pass saves for the backward pass; those of words have a row per word."""

    memory: Tensor
    keys: Tensor  # exp(2 key) (P, L, A)
    score: Tensor
    state_weight: Tensor  # in the type of the products
    context_weight: Tensor  # in the type of the products, too
    before: Tensor  # previous states (R, H)
    narrow_before: Tensor
    queries: Tensor  # these four as in `Attention`
    alphas: Tensor
    ungated: Tensor
    gates: Tensor
    narrow_contexts: Tensor  # (R, M)
    cell: Tensor  # activations inside the cell (N, 4H), see `cell_kernels`
    memory_cells: Tensor  # of an LSTM before and after each word (2, N, H), of a GRU (2, 0, H)
    chosen: Tensor  # (N,), or (0,) if attention is soft

    def places(self) -> Places:
        """The encoded places, in the form of the loops."""
        return Places(self.keys.detach().numpy(), self.memory.detach().numpy())

    def attention(self) -> Attention:
        """The attention, in the form of the loops."""
        return Attention(*(tensor.numpy() for tensor in (self.queries, self.alphas, self.ungated, self.gates)))


class ForwardPass:
    """The forward pass, all words of a time step at once; fills `states` (R, H), `contexts` (R, M) and `saved`.

    Args:
        words, draws: as in `fused_unroll`.
        product: type of the large products; everything else has the type of `tensors.first`.
        tensors: the arguments of the autograd function.
    """

    def __init__(self, words: Words, product: torch.dtype, draws: Tensor | None, tensors: Tensors) -> None:
        self.words, self.first, self.wide = words, tensors.first, tensors.first.dtype
        memory, keys, from_words, score = (tensor.to(self.wide).contiguous() for tensor in tensors[1:5])
        state_weight, self.state_bias, context_weight = (tensor.to(product) for tensor in tensors[5:])
        count, total = len(words.flat), len(from_words)
        self.units, self.size, width = state_weight.shape[1], keys.shape[2], memory.shape[2]
        gate_width = state_weight.shape[0] - self.size - context_weight.shape[0]  # M, 1 or 0
        self.lstm = context_weight.shape[0] == 4 * self.units
        self.word_query = from_words.shape[-1] > context_weight.shape[0]
        self.narrow = product != self.wide

        new = self.first.new_empty
        before = filled(self.first, total, count, self.units)
        self.states = filled(self.first, total, count, self.units)
        self.contexts = filled(self.first, total, count, width)
        self.saved = Saved(
            memory=memory,
            keys=exponentials_of_keys(keys),
            score=score,
            state_weight=state_weight,
            context_weight=context_weight,
            before=before,
            narrow_before=filled(before, total, count, self.units, product) if self.narrow else before,
            queries=new(count, self.size),
            alphas=new(count, keys.shape[1]),
            ungated=torch.empty_like(self.contexts) if gate_width else self.contexts,
            gates=new(count, gate_width),
            narrow_contexts=filled(before, total, count, width, product) if self.narrow else self.contexts,
            cell=new(count, 4 * self.units),
            memory_cells=new(2, count if self.lstm else 0, self.units),
            chosen=torch.empty(0 if draws is None else count, dtype=torch.long),
        )

        slots = words.flat % (words.photographs * words.captions)
        self.photographs = (slots // words.captions).numpy()
        self.draws = None if draws is None else draws.numpy()
        self.score, self.from_words = score.detach().numpy(), from_words.detach().numpy()
        self.places, self.attention = self.saved.places(), self.saved.attention()
        self.cell_step, self.cell_arrays = self._cell()

    def run(self) -> None:
        """Compute all time steps."""
        saved, contexts = self.saved, self.contexts.numpy()
        begin = 0
        for time, slots in enumerate(self.words.slots):
            rows = slice(begin, begin + len(slots))
            self._set_states_before(time, rows)
            in_product = torch.addmm(self.state_bias, saved.narrow_before[rows], saved.state_weight.t())
            from_state = in_product.to(self.wide).numpy()
            attention_kernels.attend(
                begin, self.photographs, self.places, self.score, from_state, self.from_words, self.attention, contexts
            )
            if self.draws is not None:
                attention_kernels.select_places(
                    begin, rows.stop, self.photographs, self.places.memory, self.draws, self.attention, contexts,
                    saved.chosen.numpy(),
                )  # fmt: skip
            if self.narrow:
                saved.narrow_contexts[rows] = self.contexts[rows]
            from_context = torch.mm(saved.narrow_contexts[rows], saved.context_weight.t()).to(self.wide).numpy()
            self.cell_step(begin, self.size, from_context, from_state, self.from_words, *self.cell_arrays)
            begin = rows.stop

    def _set_states_before(self, time: int, rows: slice) -> None:
        """Save the previous states of the words of a time step."""
        words, saved = self.words, self.saved
        if time:
            rows_before = slice(rows.start - len(words.slots[time - 1]), rows.start)
            after = [self.states, saved.memory_cells[1]] if self.lstm else [self.states]
            state, *memory_cell = (part[rows_before].index_select(0, words.kept[time]) for part in after)
        else:
            state, *memory_cell = torch.split(self.first[words.slots[0] // words.captions, 0], self.units, -1)
        saved.before[rows] = state
        if self.narrow:
            saved.narrow_before[rows] = state
        if self.lstm:
            saved.memory_cells[0, rows] = memory_cell[0]

    def _cell(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """The loop that updates the state, and the arrays that it reads and writes."""
        cell, states = self.saved.cell.numpy(), self.states.numpy()
        if self.lstm:
            before, after = self.saved.memory_cells.numpy()
            return cell_kernels.lstm_step, (before, cell, after, states)
        return cell_kernels.gru_step, (self.saved.before.numpy(), cell, states)


def filled(like: Tensor, rows: int, count: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """Allocate a tensor (rows, width) that is zero after the first `count` rows."""
    result = like.new_empty(rows, width, dtype=dtype)
    result[count:] = 0
    return result
