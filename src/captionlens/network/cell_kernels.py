"""Compiled loops of the recurrent cells, GRU and LSTM, forward and backward."""

from typing import Any

from captionlens.network.compiled_loops import compiled, exp, prange


@compiled
def gru_step(
    begin: int, size: int, from_context: Any, from_state: Any, from_words: Any, before: Any, cell: Any, states: Any
) -> None:
    """Compute the GRU's next states of n words from row `begin` on.

    Args:
        begin: the first word's row in all arrays (N, ...).
        size: A, the column where the cell's part of `from_state` begins.
        from_context: the context's projection (n, 3H).
        from_state, from_words: as in `attention_kernels.attend`.
        before: the previous states (N, H).
        cell: result (N, 4H): reset gate, update gate, candidate, and the state's part in the candidate.
        states: result (N, H).
    """
    units = states.shape[1]
    number = states.dtype.type
    one, two = number(1), number(2)
    skip = from_words.shape[1] - 3 * units
    for i in prange(len(from_context)):
        row = begin + i
        for h in range(units):
            reset = from_context[i, h] + from_words[row, skip + h] + from_state[i, size + h]
            reset = one / (one + exp(-reset))
            update = from_context[i, units + h] + from_words[row, skip + units + h] + from_state[i, size + units + h]
            update = one / (one + exp(-update))
            new_state = from_state[i, size + 2 * units + h]
            candidate = from_context[i, 2 * units + h] + from_words[row, skip + 2 * units + h] + reset * new_state
            candidate = one - two / (one + exp(two * candidate))  # tanh
            cell[row, h] = reset
            cell[row, units + h] = update
            cell[row, 2 * units + h] = candidate
            cell[row, 3 * units + h] = new_state
            states[row, h] = candidate + update * (before[row, h] - candidate)


@compiled
def gru_backward(
    begin: int, end: int, size: int, before: Any, cell: Any, d_states: Any, d_inputs: Any, d_from_state: Any
) -> None:
    """Backward pass of `gru_step` for the words from `begin` to `end`.

    Args:
        begin, end: rows.
        size, before, cell: as in `gru_step`.
        d_states: gradients of the states (N, H).
        d_inputs: result (N, 3H), of the projections of context and word.
        d_from_state: result (N, A + 3H [+ M]), of which the cell's columns are set.
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


@compiled
def gru_carry_backward(begin: int, previous: Any, cell: Any, carried: Any, d_states: Any) -> None:
    """Accumulate the gradients of the previous states of n words from row `begin` on.

    Args:
        begin: the first word's row.
        previous: the row of each word's predecessor (n,).
        cell: as in `gru_step`.
        carried: gradients through the layers that read the state (n, H).
        d_states: gradients of the states (N, H), added to.
    """
    units = d_states.shape[1]
    for i in prange(len(carried)):
        row = begin + i
        for h in range(units):
            d_states[previous[i], h] += carried[i, h] + d_states[row, h] * cell[row, units + h]


@compiled
def lstm_step(
    begin: int,
    size: int,
    from_context: Any,
    from_state: Any,
    from_words: Any,
    cells_before: Any,
    cell: Any,
    cells: Any,
    states: Any,
) -> None:
    """Compute the LSTM's next states of n words from row `begin` on.

    Args:
        begin, size, from_state, from_words: as in `gru_step`, with 4H for 3H.
        from_context: the context's projection (n, 4H).
        cells_before: the previous memory cells (N, H).
        cell: result (N, 4H): input gate, forget gate, candidate, output gate.
        cells, states: results (N, H).
    """
    units = states.shape[1]
    number = states.dtype.type
    one, two = number(1), number(2)
    skip = from_words.shape[1] - 4 * units
    for i in prange(len(from_context)):
        row = begin + i
        for h in range(units):
            entry = from_context[i, h] + from_words[row, skip + h] + from_state[i, size + h]
            entry = one / (one + exp(-entry))
            forget = from_context[i, units + h] + from_words[row, skip + units + h] + from_state[i, size + units + h]
            forget = one / (one + exp(-forget))
            new = (
                from_context[i, 2 * units + h]
                + from_words[row, skip + 2 * units + h]
                + from_state[i, size + 2 * units + h]
            )
            new = one - two / (one + exp(two * new))  # tanh
            out = (
                from_context[i, 3 * units + h]
                + from_words[row, skip + 3 * units + h]
                + from_state[i, size + 3 * units + h]
            )
            out = one / (one + exp(-out))
            value = forget * cells_before[row, h] + entry * new
            cell[row, h] = entry
            cell[row, units + h] = forget
            cell[row, 2 * units + h] = new
            cell[row, 3 * units + h] = out
            cells[row, h] = value
            states[row, h] = out * (one - two / (one + exp(two * value)))


@compiled
def lstm_backward(
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
    """Backward pass of `lstm_step` for the words from `begin` to `end`.

    Args:
        begin, end: rows.
        size, cells_before, cell, cells: as in `lstm_step`.
        d_states: gradients of the states (N, H).
        d_cells: gradients of the memory cells (N, H) from later words; those through the states are added.
        d_inputs: result (N, 4H), of the projections of context and word.
        d_from_state: result (N, A + 4H [+ 1 or M]), of which the cell's columns are set.
    """
    units = cells.shape[1]
    number = cells.dtype.type
    one, two = number(1), number(2)
    for row in prange(begin, end):
        for h in range(units):
            entry, forget = cell[row, h], cell[row, units + h]
            new, out = cell[row, 2 * units + h], cell[row, 3 * units + h]
            shown = one - two / (one + exp(two * cells[row, h]))
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


@compiled
def lstm_carry_backward(begin: int, previous: Any, cell: Any, carried: Any, d_states: Any, d_cells: Any) -> None:
    """Accumulate the gradients of the previous states and memory cells; see `gru_carry_backward`."""
    units = d_states.shape[1]
    for i in prange(len(carried)):
        row = begin + i
        for h in range(units):
            d_states[previous[i], h] += carried[i, h]
            d_cells[previous[i], h] += d_cells[row, h] * cell[row, units + h]
