"""Sources of grid features in training: a feature store on disk, or the memory of a GPU."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.geometry.crops import Crop

_CARRIED = 256  # photographs whose grids are copied at once


class Grids(Protocol):
    """A source of grid features."""

    def __contains__(self, key: str) -> bool: ...

    def read(self, keys: Iterable[str]) -> NDArray[np.float16] | Tensor:
        """Read the grids (n, L, D) of these photographs, in their order."""
        ...


@runtime_checkable
class CroppedGrids(Grids, Protocol):
    """A source of grid features of crops, which differ by the epoch."""

    epoch: int

    def crop(self, key: str) -> Crop:
        """The crop of this photograph in this epoch."""
        ...


class ResidentGrids:
    """Grids of many photographs in the memory of a device, float16, so that no batch needs a transfer.

    Args:
        grids: the source of the copy.
        keys: of the photographs.
        device: that holds the copy.
    """

    def __init__(self, grids: Grids, keys: Sequence[str], device: torch.device) -> None:
        self.rows = {key: row for row, key in enumerate(keys)}
        parts = (keys[begin : begin + _CARRIED] for begin in range(0, len(keys), _CARRIED))
        self.grids = torch.cat([torch.as_tensor(grids.read(part)).to(device) for part in parts])

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def read(self, keys: Iterable[str]) -> Tensor:
        """Read the grids (n, L, D) of these photographs, in their order, on the device."""
        return self.grids[torch.tensor([self.rows[key] for key in keys], device=self.grids.device)]
