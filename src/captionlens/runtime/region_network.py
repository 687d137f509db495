"""Attention restricted to a region of the photograph, as a wrapper around a network.

Attention is a softmax over the places of the grid (Bahdanau et al., 2015). Without the places outside the box it is a
softmax over those inside, so the words describe what lies there. Two things still depend on the rest of the photograph.
The initial state is computed from all places: computed from those inside alone, it gives fragments of sentences and
names fewer things (docs/results.md). And the receptive fields of the backbone reach beyond the box.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.runtime.decoding import Network, State


class RegionNetwork:
    """A network that attends to some places of its grid only, with the same interface.

    Args:
        network: the unrestricted one.
        places: numbers of the places to keep, ascending.
        count: number of all places, L.
    """

    def __init__(self, network: Network, places: NDArray[np.int64], count: int) -> None:
        self.network = network
        self.places = places
        self.count = count

    def encode(self, images: NDArray[np.float32]) -> Any:
        """Encode preprocessed photographs (B, 3, H, W) as grid features (B, L, D) of all places."""
        return self.network.encode(images)

    def start(self, features: Any) -> State:
        """Make the initial state from grid features (B, L, D) of all places.

        Raises:
            ValueError: the network's memory does not have a row per place.
        """
        state = self.network.start(features)
        for array in state.memory:
            if array.shape[1] != self.count:
                raise ValueError(f"memory must be (B, {self.count}, ...), a row a place, got {tuple(array.shape)}")
        return State(tuple(array[:, self.places] for array in state.memory), state.recurrent)

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """Decode one time step; the attention (B, K, L) is zero outside the region."""
        log_probs, attention, state = self.network.step(tokens, state)
        whole = np.zeros((*attention.shape[:2], self.count), np.float32)
        whole[..., self.places] = attention
        return log_probs, whole, state
