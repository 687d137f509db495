"""Packing of the words of a batch of captions, without padding, ordered by time, photograph and slot."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Words:
    """The N words of a batch in the order in which they are computed: by time, photograph and slot.

    `slots[t]` are the caption slots (photograph times C plus caption) with a word at time t, and `kept[t]` the
    indices of their predecessors among the words of time t - 1. `flat` (N,) is the index of each word in the padded
    array, time * P C + slot. `starts` (T P + 1,) is the row where the words of each time and photograph begin, and N.
    """

    photographs: int
    captions: int
    there: Tensor  # (T, P, C)
    flat: Tensor
    slots: tuple[Tensor, ...]
    kept: tuple[Tensor, ...]
    starts: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> "Words":
        """Pack the words of captions of these lengths (P, C)."""
        photographs, captions = lengths.shape
        times = torch.arange(int(lengths.max()), device=lengths.device)
        there = lengths > times[:, None, None]  # (T, P, C)
        flat = there.flatten().nonzero().squeeze(1)
        time, slot = flat // lengths.numel(), flat % lengths.numel()
        place = there.flatten(1).cumsum(1) - 1  # (T, P C) index among the words of its time
        kept = place[(time - 1).clamp(min=0), slot]
        counts = there.sum((1, 2)).tolist()
        starts = nn.functional.pad(there.sum(-1).flatten().cumsum(0), (1, 0))
        return cls(
            photographs,
            captions,
            there,
            flat,
            torch.split(slot, counts),
            torch.split(kept, counts),
            starts,
        )

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """Pack values of tokens (P, C, T, ...), `<start>` first, to those of the predicted words (N, ...)."""
        return tokens.movedim(2, 0)[1 : len(self.there) + 1][self.there]

    def before(self, tokens: Tensor) -> Tensor:
        """Pack the token before each word (N,) from tokens (P, C, T), `<start>` first."""
        return tokens.permute(2, 0, 1)[: len(self.there)][self.there]

    def padded(self, rows: Tensor) -> Tensor:
        """Unpack one row per word (N, X) to (T, P, C, X), zero where there is no word."""
        shape = (*self.there.shape, rows.shape[-1])
        return rows.new_zeros(self.there.numel(), rows.shape[-1]).index_copy(0, self.flat, rows).view(shape)

    def of_captions(self, values: Tensor) -> Tensor:
        """Repeat values of captions (P, C) for each of their words (N,)."""
        return values.to(self.there.device).expand(self.there.shape)[self.there]
