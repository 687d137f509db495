"""Loops over words and units inside the recurrent cells, compiled as those of `kernels.py` are."""

from typing import Any

# Numba's own by way of there, where Numba learns of its threads before it is imported.
from captionlens.network.kernels import _compiled, _exp, prange


@_compiled
def move(
    begin: int, size: int, moved: Any, from_state: Any, from_words: Any, before: Any, cell: Any, states: Any
) -> None:
    """The GRU's next states of n words that follow `begin`.

    Args:
        begin: the first word's row in all arrays (N, ...).
        size: A, where the cell's part of `from_state` begins.
        moved: the context through its layer (n, 3H).
        from_state, from_words: as in `look`.
        before: the states before (N, H).
        cell: result (N, 4H): reset, update, candidate and the state's part in the candidate.
        states: result (N, H).
    """
    units = states.shape[1]
    number = states.dtype.type
    one, two = number(1), number(2)
    skip = from_words.shape[1] - 3 * units
    for i in prange(len(moved)):
        row = begin + i
        for h in range(units):
            reset = moved[i, h] + from_words[row, skip + h] + from_state[i, size + h]
            reset = one / (one + _exp(-reset))
            update = moved[i, units + h] + from_words[row, skip + units + h] + from_state[i, size + units + h]
            update = one / (one + _exp(-update))
            new_state = from_state[i, size + 2 * units + h]
            candidate = moved[i, 2 * units + h] + from_words[row, skip + 2 * units + h] + reset * new_state
            candidate = one - two / (one + _exp(two * candidate))  # tanh
            cell[row, h] = reset
            cell[row, units + h] = update
            cell[row, 2 * units + h] = candidate
            cell[row, 3 * units + h] = new_state
            states[row, h] = candidate + update * (before[row, h] - candidate)


@_compiled
def move_back(
    begin: int, end: int, size: int, before: Any, cell: Any, d_states: Any, d_inputs: Any, d_from_state: Any
) -> None:
    """The gradients of `move` for the words from `begin` to `end`.

    Args:
        begin, end: rows.
        size, before, cell: as in `move`.
        d_states: gradients of the states (N, H).
        d_inputs: result (N, 3H), of what context and word give to the cell.
        d_from_state: result (N, A + 3H [+ M]); this sets the cell's part.
    """
    units = before.shape[1]
    number = before.dtype.type
    one = number(1)
    for row in prange(begin, end):
        for h in range(units):
            reset, update = cell[row, h], cell[row, units + h]
            candidate, new_state = cell[row, 2 * units + h], cell[row, 3 * units + h]
            d_state = d_states[row, h]
            d_candidate = d_state * (one - update) * (one - candidate * candidate)
            d_reset = d_candidate * new_state * reset * (one - reset)
            d_update = d_state * (before[row, h] - candidate) * update * (one - update)
            d_inputs[row, h] = d_reset
            d_inputs[row, units + h] = d_update
            d_inputs[row, 2 * units + h] = d_candidate
            d_from_state[row, size + h] = d_reset
            d_from_state[row, size + units + h] = d_update
            d_from_state[row, size + 2 * units + h] = d_candidate * reset


@_compiled
def carry_back(begin: int, previous: Any, cell: Any, carried: Any, d_states: Any) -> None:
    """What n words that follow `begin` give back to the states before them, added to those states' gradients.

    Args:
        begin: the first word's row.
        previous: the row of the word that each follows (n,).
        cell: as in `move`.
        carried: gradients by way of the layers that read the state (n, H).
        d_states: gradients of the states (N, H).
    """
    units = d_states.shape[1]
    for i in prange(len(carried)):
        row = begin + i
        for h in range(units):
            d_states[previous[i], h] += carried[i, h] + d_states[row, h] * cell[row, units + h]


@_compiled
def move_lstm(
    begin: int,
    size: int,
    moved: Any,
    from_state: Any,
    from_words: Any,
    cells_before: Any,
    cell: Any,
    cells: Any,
    states: Any,
) -> None:
    """The LSTM's next states of n words that follow `begin`.

    Args:
        begin, size, from_state, from_words: as in `move`, with 4H where that has 3H.
        moved: the context through its layer (n, 4H).
        cells_before: the memory cells before (N, H).
        cell: result (N, 4H): input gate, forget gate, candidate, output gate.
        cells, states: results (N, H).
    """
    units = states.shape[1]
    number = states.dtype.type
    one, two = number(1), number(2)
    skip = from_words.shape[1] - 4 * units
    for i in prange(len(moved)):
        row = begin + i
        for h in range(units):
            entry = moved[i, h] + from_words[row, skip + h] + from_state[i, size + h]
            entry = one / (one + _exp(-entry))
            forget = moved[i, units + h] + from_words[row, skip + units + h] + from_state[i, size + units + h]
            forget = one / (one + _exp(-forget))
            new = moved[i, 2 * units + h] + from_words[row, skip + 2 * units + h] + from_state[i, size + 2 * units + h]
            new = one - two / (one + _exp(two * new))  # tanh
            out = moved[i, 3 * units + h] + from_words[row, skip + 3 * units + h] + from_state[i, size + 3 * units + h]
            out = one / (one + _exp(-out))
            value = forget * cells_before[row, h] + entry * new
            cell[row, h] = entry
            cell[row, units + h] = forget
            cell[row, 2 * units + h] = new
            cell[row, 3 * units + h] = out
            cells[row, h] = value
            states[row, h] = out * (one - two / (one + _exp(two * value)))


@_compiled
def move_lstm_back(
    begin: int,
    end: int,
    size: int,
    cells_before: Any,
    cell: Any,
    cells: Any,
    d_states: Any,
    d_cells: Any,
    d_inputs: Any,
    d_from_state: Any,
) -> None:
    """The gradients of `move_lstm` for the words from `begin` to `end`.

    Args:
        begin, end: rows.
        size, cells_before, cell, cells: as in `move_lstm`.
        d_states: gradients of the states (N, H).
        d_cells: of the memory cells (N, H) by way of the words that follow; by way of the states is added to it.
        d_inputs: result (N, 4H), of what context and word give to the cell.
        d_from_state: result (N, A + 4H [+ 1 or M]); this sets the cell's part.
    """
    units = cells.shape[1]
    number = cells.dtype.type
    one, two = number(1), number(2)
    for row in prange(begin, end):
        for h in range(units):
            entry, forget = cell[row, h], cell[row, units + h]
            new, out = cell[row, 2 * units + h], cell[row, 3 * units + h]
            shown = one - two / (one + _exp(two * cells[row, h]))
            d_state = d_states[row, h]
            d_value = d_cells[row, h] + d_state * out * (one - shown * shown)
            d_cells[row, h] = d_value
            d_entry = d_value * new * entry * (one - entry)
            d_forget = d_value * cells_before[row, h] * forget * (one - forget)
            d_new = d_value * entry * (one - new * new)
            d_out = d_state * shown * out * (one - out)
            d_inputs[row, h] = d_entry
            d_inputs[row, units + h] = d_forget
            d_inputs[row, 2 * units + h] = d_new
            d_inputs[row, 3 * units + h] = d_out
            d_from_state[row, size + h] = d_entry
            d_from_state[row, size + units + h] = d_forget
            d_from_state[row, size + 2 * units + h] = d_new
            d_from_state[row, size + 3 * units + h] = d_out


@_compiled
def carry_lstm_back(begin: int, previous: Any, cell: Any, carried: Any, d_states: Any, d_cells: Any) -> None:
    """What n words that follow `begin` give back to the states and memory cells before them; see `carry_back`."""
    units = d_states.shape[1]
    for i in prange(len(carried)):
        row = begin + i
        for h in range(units):
            d_states[previous[i], h] += carried[i, h]
            d_cells[previous[i], h] += d_cells[row, h] * cell[row, units + h]
