"""A batch of photographs with all their captions, as teacher forcing and the objectives read it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.runtime.vocabulary import PAD


@dataclass(frozen=True, slots=True)
class BlankedBatch:
    """B photographs with something blanked out, `features` (B, L, D) float16, and as they are, `whole`, likewise;
    `captions` (B, C, T) int64, padded with 0, and `wanted` (B, C, T) int64, HIDDEN, SEEN or 0 of each token."""

    features: Tensor
    whole: Tensor
    captions: Tensor
    wanted: Tensor

    def to(self, device: torch.device) -> "BlankedBatch":
        """The same on a device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True, slots=True)
class Batch:
    """P photographs: `features` (P, L, D) float16 and `captions` (P, C, T) int64, padded with 0.

    Where several processes train together, these are one process's part of a batch. With the shares as factors, the
    mean over all processes of what each computes of its part is that of the whole batch.

    Attributes:
        caption_count: captions of the whole batch.
        word_count: words to predict in the whole batch, `<end>` among them.
        caption_share: captions here, as a part of the mean of all processes; 1 where there is one process.
        word_share: likewise words.
        keys: of the photographs here.
        phrases: of each token the row of `coverages` that is its phrase's, or -1 (P, C, T); with boxes only.
        coverages: how much of each place the boxes of a phrase cover, from 0 to 1 (n, L) float32; with boxes only.
        blanked: those photographs that have something blanked out; None: there are none.
    """

    features: Tensor
    captions: Tensor
    caption_count: int
    word_count: int
    caption_share: float
    word_share: float
    keys: tuple[str, ...]
    phrases: Tensor | None = None
    coverages: Tensor | None = None
    blanked: BlankedBatch | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same with its tensors on a device."""
        names = ("features", "captions", "phrases", "coverages", "blanked")
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{name: part.to(device) for name, part in parts.items() if part is not None})


def pad_captions(captions: Sequence[Sequence[Sequence[int]]]) -> NDArray[np.int64]:
    """Captions of P photographs in one array (P, C, T)."""
    slots = max(map(len, captions))
    longest = max(len(caption) for numbers in captions for caption in numbers)
    padded = np.full((len(captions), slots, longest), PAD, np.int64)
    for row, numbers in enumerate(captions):
        for slot, caption in enumerate(numbers):
            padded[row, slot, : len(caption)] = caption
    return padded
