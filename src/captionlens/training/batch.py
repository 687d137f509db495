"""The batch type: photographs with all their captions, the input of teacher forcing and the objectives."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.network.smoothed_cross_entropy import SoftTargets
from captionlens.runtime.vocabulary import PAD


@dataclass(frozen=True, slots=True, eq=False)
class CaptionMasses:
    """The teachers' distribution at each of the n words of a caption, `<end>` included.

    `words` int32 (n, K) are the most probable words, `masses` float16 (n, K) their mean probabilities.
    """

    words: NDArray[np.int32]
    masses: NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class BlankedBatch:
    """B photographs with a phrase blanked out.

    `features` (B, L, D) float16 are their grid features, `whole` (B, L, D) float16 those of the unchanged photographs.
    `captions` (B, C, T) int64 are padded with 0; `wanted` (B, C, T) int64 is HIDDEN, SEEN or 0 for each token.
    """

    features: Tensor
    whole: Tensor
    captions: Tensor
    wanted: Tensor

    def to(self, device: torch.device) -> "BlankedBatch":
        """Move to a device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True, slots=True)
class Batch:
    """P photographs: `features` (P, L, D) float16 and `captions` (P, C, T) int64, padded with 0.

    In distributed training these are one process's part of a batch. With the shares as factors of each process's loss,
    the mean over all processes is the loss of the whole batch.

    Attributes:
        caption_count: captions of the whole batch.
        word_count: words to predict in the whole batch, `<end>` included.
        caption_share: captions here over the mean per process; 1 with a single process.
        word_share: words here over the mean per process.
        keys: of the photographs here.
        phrases: row of `coverages` for the phrase of each token, or -1 (P, C, T); with boxes only.
        coverages: share of each place that the boxes of a phrase cover (n, L) float32; with boxes only.
        blanked: the photographs with a phrase blanked out; None: there are none.
        weights: of the captions in the cross-entropy (P, C) float32; None: 1.
        soft: words and masses of the teachers' distribution for each token (P, C, T, K); with teachers only.
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
    weights: Tensor | None = None
    soft: SoftTargets | None = None

    def to(self, device: torch.device) -> "Batch":
        """Move the tensors to a device."""
        names = ("features", "captions", "phrases", "coverages", "blanked", "weights")
        parts = {name: getattr(self, name) for name in names}
        moved = {name: part.to(device) for name, part in parts.items() if part is not None}
        if self.soft is not None:
            moved["soft"] = SoftTargets(*(part.to(device) for part in self.soft))
        return replace(self, **moved)


def pad_captions(captions: Sequence[Sequence[Sequence[int]]]) -> NDArray[np.int64]:
    """Pad captions of P photographs to one array (P, C, T)."""
    slots = max(map(len, captions))
    longest = max(len(caption) for numbers in captions for caption in numbers)
    padded = np.full((len(captions), slots, longest), PAD, np.int64)
    for row, numbers in enumerate(captions):
        for slot, caption in enumerate(numbers):
            padded[row, slot, : len(caption)] = caption
    return padded
