"""A captioner of two captions, 'bright' and 'dark', whose network can be held up and made to fail."""

import io
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionlens.runtime.captioner import Captioner
from captionlens.runtime.decoding import DecodingOptions, State
from captionlens.runtime.images import Preprocessing
from captionlens.runtime.vocabulary import END, START, Vocabulary

VOCABULARY = Vocabulary.build(["bright dark"])
BRIGHT, DARK = (VOCABULARY.encode(word)[1] for word in ("bright", "dark"))
GRID = (5, 5)


class BrightNetwork:
    """Says 'bright' with the photograph's mean brightness, from 0 to 1, as the probability, else 'dark'; then ends.

    It can be held up: while `gate` is clear, `encode` waits, and `entered` is set once it does.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None  # raised by `encode`
        self.encoded: list[int] = []  # photographs of each call of `encode`
        self.searched: list[int] = []  # photographs of each call of `start`

    def encode(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.encoded.append(len(images))
        self.entered.set()
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        size = images.shape[-1] // GRID[0]
        blocks = images.reshape(len(images), 3, GRID[0], size, GRID[1], size)
        cells: NDArray[np.float32] = blocks.mean((1, 3, 5))
        return cells.reshape(len(images), -1, 1)  # (B, L, 1)

    def start(self, features: Any) -> State:
        self.searched.append(len(features))
        return State((features,), (np.zeros((len(features), 1, 1), np.float32),))

    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        memory = state.memory[0]
        bright = np.clip(memory.mean((1, 2)), 0.01, 0.99)[:, None]  # (B, 1)
        probabilities = np.full((*tokens.shape, len(VOCABULARY)), 1e-9, np.float32)
        first = tokens == START
        probabilities[..., BRIGHT] = np.where(first, bright, 1e-9)
        probabilities[..., DARK] = np.where(first, 1 - bright, 1e-9)
        probabilities[..., END] = np.where(first, 1e-9, 1)
        attention = np.full((*tokens.shape, memory.shape[1]), 1 / memory.shape[1], np.float32)
        return np.log(probabilities), attention, state


def captioner_of(network: BrightNetwork) -> Captioner:
    """A captioner without a model directory."""
    preprocessing = Preprocessing(20, mean=(0, 0, 0), std=(1, 1, 1))
    return Captioner(
        network,
        vocabulary=VOCABULARY,
        preprocessing=preprocessing,
        grid=GRID,
        name="bright",
        options=DecodingOptions(beam=2),
    )


def grey(value: int, side: int = 20) -> bytes:
    """A square photograph of one grey, as PNG."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(file, "PNG")
    return file.getvalue()


WHITE, BLACK = grey(255), grey(0)
