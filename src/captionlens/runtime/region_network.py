"""A captioner made to look at a part of the photograph: attention kept to the cells of a box.

Attention is a softmax over places (Bahdanau et al., 2015). Without the places outside the box it is one over those
inside, so the words are said of what lies there. Two things still know the rest of the photograph: the network's first
state, which is made of all places (made of those inside alone it gives fragments of sentences, and names less:
docs/results.md), and the grid, because the backbone saw what is around a place.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.runtime.decoding import Network, State


class RegionNetwork:
    """A network that has only some places of its grid to look at; it offers the same seam.

    Args:
        network: the whole one.
        places: numbers of the places it keeps, ascending.
        count: of all places, L.
    """

    def __init__(self, network: Network, places: NDArray[np.int64], count: int) -> None:
        self.network = network
        self.places = places
        self.count = count

    def encode(self, images: NDArray[np.float32]) -> Any:
        """Prepared photographs (B, 3, H, W) to grid features (B, L, D) of all places."""
        return self.network.encode(images)

    def start(self, features: Any) -> State:
        """Grid features (B, L, D) of all places to the state before the first word.

        Raises:
            ValueError: the network's memory has no row a place.
        """
        state = self.network.start(features)
        for array in state.memory:
            if array.shape[1] != self.count:
                raise ValueError(f"memory must be (B, {self.count}, ...), a row a place, got {tuple(array.shape)}")
        return State(tuple(array[:, self.places] for array in state.memory), state.recurrent)

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """One word further; the attention (B, K, L) has zeros outside."""
        log_probs, attention, state = self.network.step(tokens, state)
        whole = np.zeros((*attention.shape[:2], self.count), np.float32)
        whole[..., self.places] = attention
        return log_probs, whole, state
