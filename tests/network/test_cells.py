"""The recurrent cells against PyTorch's."""

import pytest
import torch

from captionlens.network.cells import GATES, Cell, next_state


@pytest.mark.parametrize("cell", GATES)
def test_a_cell_is_that_of_pytorch(cell: str) -> None:
    torch.manual_seed(0)
    ours, (context, embedded, state, memory) = Cell(cell, 4, 3, 5), (torch.randn(7, size) for size in (4, 3, 5, 5))
    theirs = {"gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[cell](4 + 3, 5)
    with torch.no_grad():
        theirs.weight_ih.copy_(torch.cat([ours.context_layer.weight, ours.embedding_layer.weight], 1))
        theirs.weight_hh.copy_(ours.state_layer.weight)
        theirs.bias_ih.copy_(ours.context_layer.bias)
        theirs.bias_hh.copy_(ours.state_layer.bias)
        inputs = ours.context_layer(context) + ours.embedding_layer(embedded)
        whole = torch.cat([state, memory], -1) if cell == "lstm" else state
        result = next_state(inputs, ours.state_layer(state), whole)
        both = torch.cat([context, embedded], -1)
        expected = torch.cat(theirs(both, (state, memory)), -1) if cell == "lstm" else theirs(both, state)
    torch.testing.assert_close(result, expected)
