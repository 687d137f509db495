"""A captioner made to look at a part of the photograph: attention kept to the cells of a box.

Attention is a softmax over places (Bahdanau et al., 2015). Without the places outside the box it is one over those
inside, so the words are said of what lies there. Two things still know the rest of the photograph: the network's first
state, which is made of all places (made of those inside alone it gives fragments of sentences, and names less:
docs/results.md), and the grid, because the backbone saw what is around a place.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.attention.boxes import coverage
from captionlens.errors import OptionError
from captionlens.runtime.decoding import Network, State

_SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True, slots=True)
class Region:
    """A box in a photograph, its sides as fractions of width and height, from the upper left corner.

    Raises:
        OptionError: a side is outside [0, 1], or the box holds nothing.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        for side in _SIDES:
            if not 0 <= getattr(self, side) <= 1:  # nan neither
                raise OptionError(f"region: {side} must be in [0, 1], got {getattr(self, side)}")
        if not (self.left < self.right and self.top < self.bottom):
            raise OptionError("region: left must be less than right, and top less than bottom")

    @classmethod
    def parse(cls, text: str) -> "Region":
        """A region from `left,top,right,bottom`.

        Raises:
            OptionError: that is not what the text is.
        """
        try:
            left, top, right, bottom = map(float, text.split(","))
        except ValueError:
            raise OptionError(f"region must be {','.join(_SIDES)}, four fractions, got {text!r}") from None
        return cls(left, top, right, bottom)

    def places(self, rows: int, columns: int) -> NDArray[np.int64]:
        """The cells of a grid, by rows, of which at least half lies in the box; where there is none, those it covers
        most."""
        box = np.array([[self.left, self.top, self.right, self.bottom]])
        covered = coverage(box, rows, columns).ravel()
        return np.flatnonzero(covered >= min(0.5, float(covered.max())))


class Within:
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
        """Grid features (B, L, D) of all places to the state before the first word."""
        state = self.network.start(features)
        return State(tuple(array[:, self.places] for array in state.memory), state.recurrent)

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """One word further; the attention (B, K, L) has zeros outside."""
        log_probs, attention, state = self.network.step(tokens, state)
        whole = np.zeros((*attention.shape[:2], self.count), np.float32)
        whole[..., self.places] = attention
        return log_probs, whole, state
