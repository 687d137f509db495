"""The recurrent cells, GRU and LSTM: their layers and one time step."""

import torch
from torch import Tensor, nn

GATES = {"gru": 3, "lstm": 4}  # pre-activations per unit, the candidate's included


class Cell(nn.Module):
    """The layers of a recurrent cell, which read the context vector, the previous word and the state.

    Args:
        kind: "gru" or "lstm".
        context_size: M, of the context vector.
        embedding_size: E, of the previous word.
        units: H, of the hidden state.
    """

    def __init__(self, kind: str, context_size: int, embedding_size: int, units: int) -> None:
        super().__init__()
        gates = GATES[kind]
        self.context_layer = nn.Linear(context_size, gates * units)
        self.embedding_layer = nn.Linear(embedding_size, gates * units, bias=False)
        self.state_layer = nn.Linear(units, gates * units)
        if kind == "lstm":
            # With a bias of 0 the forget gate halves the memory cell at each word, which slows early learning
            # (Jozefowicz, Zaremba and Sutskever, "An Empirical Exploration of Recurrent Network Architectures",
            # ICML 2015).
            with torch.no_grad():
                self.state_layer.bias[units : 2 * units] = 1


def next_state(inputs: Tensor, from_state: Tensor, state: Tensor) -> Tensor:
    """The next state of a gated recurrent unit (..., H), or of an LSTM (..., 2H).

    GRU: Cho et al., EMNLP 2014, in cuDNN's form, with the reset gate after the product. LSTM: "Show, Attend and Tell",
    equations (1) to (3); its state is the hidden state followed by the memory cell.

    Args:
        inputs: sum of the projections of context and embedding (..., 3H) or (..., 4H). The gates are in the order of
            `torch.nn.GRUCell` and `torch.nn.LSTMCell`.
        from_state: the projection of the hidden state, of the same shape.
        state: (..., H) or (..., 2H).
    """
    # The state stays in single precision under autocast: rounding errors would accumulate over time.
    if inputs.shape[-1] == 2 * state.shape[-1]:
        gates = (inputs + from_state).to(state.dtype)
        entry, forget, new, out = gates.chunk(4, -1)
        cell = torch.sigmoid(forget) * state.chunk(2, -1)[1] + torch.sigmoid(entry) * torch.tanh(new)
        return torch.cat([torch.sigmoid(out) * torch.tanh(cell), cell], -1)
    reset_in, update_in, new_in = inputs.chunk(3, -1)
    reset_state, update_state, new_state = from_state.chunk(3, -1)
    update = torch.sigmoid(update_in + update_state).to(state.dtype)
    candidate = torch.tanh(new_in + torch.sigmoid(reset_in + reset_state) * new_state).to(state.dtype)
    return candidate + update * (state - candidate)
