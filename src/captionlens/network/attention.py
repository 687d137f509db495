"""Additive attention over the places of a grid: soft or hard, with one head or several.

Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
equation (6) and appendix A.1.2; over image features: Xu et al., "Show, Attend and Tell", ICML 2015.
"""

import torch
from torch import Tensor, nn


class AdditiveAttention(nn.Module):
    """The layers of additive attention, whose scores are v tanh(W memory + U query).

    Args:
        memory_size: M, the size of an encoded place.
        query_size: the size of the decoder's state.
        size: A, the number of hidden units, inside the tanh.
    """

    def __init__(self, memory_size: int, query_size: int, size: int) -> None:
        super().__init__()
        self.memory_layer = nn.Linear(memory_size, size)
        self.query_layer = nn.Linear(query_size, size)
        self.score_layer = nn.Linear(size, 1, bias=False)  # a bias would cancel in the softmax

    def keys(self, memory: Tensor) -> Tensor:
        """Project memory (B, L, M) to keys (B, L, A), which are the same at all time steps."""
        keys: Tensor = self.memory_layer(memory)
        return keys


def attention_scores(queries: Tensor, keys: Tensor, score: Tensor, heads: int) -> Tensor:
    """Scores of the places before the softmax, (B, K, heads, L), for K queries per photograph.

    Args:
        queries: the decoder's states, projected by `query_layer` (B, K, A).
        keys: of the memory (B, L, A).
        score: weights of the units (A,).
        heads: number of heads; each has A / heads of the units.
    """
    # The K captions of a photograph share its keys by broadcasting, without a copy.
    hidden = torch.tanh(keys[:, None] + queries[:, :, None])  # (B, K, L, A)
    score = score.to(hidden.dtype)
    if heads == 1:
        # One product over all places, far faster in ONNX Runtime than one per query.
        return (score[None] @ hidden.flatten(0, 2).T).reshape(hidden.shape[:3])[:, :, None]
    return (hidden * score).reshape(*hidden.shape[:3], heads, -1).sum(-1).transpose(2, 3)


def weighted_sum(alpha: Tensor, memory: Tensor) -> Tensor:
    """Context vectors (B, K, M): sums of the encoded places, weighted by the attention.

    Args:
        alpha: attention of each head (B, K, heads, L), which weights M / heads of the values of each place.
        memory: encoded places (B, L, M).
    """
    heads = alpha.shape[2]
    alpha = alpha.to(memory.dtype)
    if heads == 1:
        return torch.bmm(alpha[:, :, 0], memory)
    values = memory.reshape(*memory.shape[:2], heads, -1).transpose(1, 2)  # (B, heads, L, M / heads)
    return (alpha.transpose(1, 2) @ values).transpose(1, 2).flatten(-2)


def select_places(alpha: Tensor, draws: Tensor | None) -> Tensor:
    """Select the place of hard attention, int64 (...), or -1 for the expected context.

    Args:
        alpha: attention weights, which sum to 1 (..., L).
        draws: (...); a uniform random number in [0, 1) samples a place, a number below 0 selects the expected context,
            and a number from 1 on the argmax. None selects the argmax everywhere.
    """
    strongest = alpha.argmax(-1)
    if draws is None:
        return strongest
    passed = alpha.cumsum(-1)
    drawn = (passed <= draws[..., None] * passed[..., -1:]).sum(-1).clamp(max=alpha.shape[-1] - 1)
    return torch.where(draws < 0, -1, torch.where(draws < 1, drawn, strongest))


def hard_weights(alpha: Tensor, chosen: Tensor) -> Tensor:
    """One-hot weights (..., L) of the chosen places, without gradient; `alpha` itself where `chosen` (...) is -1."""
    places = torch.arange(alpha.shape[-1], device=alpha.device)
    picked = (places == chosen[..., None]).to(alpha.dtype)
    return torch.where(chosen[..., None] < 0, alpha, picked)
