"""Additive attention over the places of a grid.

Bahdanau, Cho and Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
equation (6) and appendix A.1.2; over image features: Xu et al., "Show, Attend and Tell", ICML 2015.
"""

import torch
from torch import Tensor, nn


class AdditiveAttention(nn.Module):
    """Weights of L places for each of K queries a photograph: softmax of v tanh(W memory + U query).

    Args:
        memory_size: M, the size of an encoded place.
        query_size: the size of the decoder's state.
        size: A, units inside the tanh.
    """

    def __init__(self, memory_size: int, query_size: int, size: int) -> None:
        super().__init__()
        self.memory_layer = nn.Linear(memory_size, size)
        self.query_layer = nn.Linear(query_size, size)
        self.score_layer = nn.Linear(size, 1, bias=False)  # a bias would cancel in the softmax

    def keys(self, memory: Tensor) -> Tensor:
        """The part that does not change over time: memory (B, L, M) to keys (B, L, A)."""
        keys: Tensor = self.memory_layer(memory)
        return keys

    def forward(self, queries: Tensor, memory: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to the memory.

        Args:
            queries: the decoder's states through `query_layer` (B, K, A), K of them a photograph.
            memory: encoded places (B, L, M).
            keys: of the memory (B, L, A).

        Returns:
            The context vectors (B, K, M) and the attention (B, K, L), which sums to 1 over the places.
        """
        # The K captions of a photograph share its keys by broadcasting; nothing is copied.
        hidden = torch.tanh(keys[:, None] + queries[:, :, None])  # (B, K, L, A)
        scores = self.score_layer(hidden).squeeze(-1)  # (B, K, L)
        alpha = scores.float().softmax(-1)  # (B, K, L)
        context = torch.bmm(alpha.to(memory.dtype), memory)  # (B, K, M)
        return context, alpha
