"""The feature store: grid features of photographs in half precision, in memory-mapped shards.

A store is a folder:

    index.json           description of the grids: backbone, its fingerprint, grid, channels
    shard-00000.npy      float16 (photographs, L, D), an ordinary NumPy file
    shard-00000.json     the keys of its rows, in order

A shard counts once its `.json` exists; both files are written atomically, so that a killed extraction loses at most the
shard it was working on. This module needs NumPy only.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.datasets.records import Record
from captionlens.errors import StoreError
from captionlens.files import atomic_open, write_text

FORMAT = 1
# Usual networks' features are far smaller, but infinity would ruin training.
LARGEST = float(np.finfo(np.float16).max)
SHARD = 256  # photographs; 53 MB with EfficientNet-Lite2's 81 x 1280 numbers


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """Description of the grids in a store. Grids with different indices are never mixed."""

    backbone: str
    fingerprint: str  # of backbone, weights and preprocessing
    rows: int
    columns: int
    channels: int

    @property
    def bytes_per_photograph(self) -> int:
        """Size of one grid on disk."""
        return self.rows * self.columns * self.channels * 2


def photograph_key(record: Record, *, mirrored: bool = False, blanked: NDArray[np.bool_] | None = None) -> str:
    """Make the key of a photograph's grid from its id and the size of its file, so that a changed file is noticed.

    The mirrored photograph has a grid of its own: with a convolutional network it is not the mirrored grid. So has the
    photograph with cells (R, C) blanked out, `blanked`.

    Raises:
        OSError: the file is missing.
    """
    key = f"{record.source_id}:{record.image.stat().st_size}"
    if blanked is not None:
        key += f":without-{np.packbits(blanked).tobytes().hex()}"
    return key + (":mirrored" if mirrored else "")


class FeatureStore:
    """Grids by key. `open` opens an existing store, `create` makes a new one if needed."""

    def __init__(self, folder: Path, index: StoreIndex) -> None:
        self.folder = folder
        self.index = index
        self._shards: list[NDArray[np.float16]] = []
        self._rows: dict[str, tuple[int, int]] = {}  # key -> shard, row
        while self._shard_path(len(self._shards)).with_suffix(".json").exists():
            self._add_shard(len(self._shards))

    @classmethod
    def open(cls, folder: str | Path) -> "FeatureStore":
        """Open an existing store.

        Raises:
            StoreError: there is none, or it is damaged.
        """
        folder = Path(folder)
        path = folder / "index.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text())
            if content.pop("format") != FORMAT:
                raise StoreError(path, f"is not of format {FORMAT}")
            return cls(folder, StoreIndex(**content))
        except FileNotFoundError as error:
            raise StoreError(folder, "is not a feature store (no index.json)") from error
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(path, f"is damaged ({error})") from error

    @classmethod
    def create(cls, folder: str | Path, index: StoreIndex) -> "FeatureStore":
        """Open the store in `folder`, or make it.

        Raises:
            StoreError: the store has a different index; the message gives the differences.
        """
        folder = Path(folder)
        if (folder / "index.json").exists():
            store = cls.open(folder)
            store.require(index)
            return store
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StoreError(folder, "is there already and is not a feature store")
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "index.json", json.dumps({"format": FORMAT, **asdict(index)}, indent=2) + "\n")
        return cls(folder, index)

    def require(self, index: StoreIndex) -> None:
        """Check that the store has this index.

        Raises:
            StoreError: the indices differ; the message gives the differences.
        """
        mine, wanted = asdict(self.index), asdict(index)
        different = [f"{name} {mine[name]}, wanted {wanted[name]}" for name in mine if mine[name] != wanted[name]]
        if different:
            raise StoreError(self.folder, f"was made otherwise ({'; '.join(different)}): choose another folder")

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def append(self, keys: Sequence[str], grids: NDArray[np.float16]) -> None:
        """Add one shard, atomically.

        Args:
            keys: one per photograph, none of them in the store yet.
            grids: float16 (photographs, L, D).
        """
        number = len(self._shards)
        path = self._shard_path(number)
        with atomic_open(path) as file:
            np.save(file, grids)
        write_text(path.with_suffix(".json"), json.dumps(list(keys)) + "\n")
        self._add_shard(number)

    def read(self, keys: Iterable[str]) -> NDArray[np.float16]:
        """Read the grids (n, L, D) of `keys`, in their order.

        Raises:
            StoreError: a key is not in the store.
        """
        keys = list(keys)
        grids = np.empty((len(keys), self.index.rows * self.index.columns, self.index.channels), np.float16)
        for place, key in enumerate(keys):
            try:
                shard, row = self._rows[key]
            except KeyError:
                raise StoreError(self.folder, f"has no features of photograph {key}") from None
            grids[place] = self._shards[shard][row]
        return grids

    def _shard_path(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.npy"

    def _add_shard(self, number: int) -> None:
        path = self._shard_path(number)
        try:
            grids = np.load(path, mmap_mode="r", allow_pickle=False)
            keys = json.loads(path.with_suffix(".json").read_text())
        except (OSError, ValueError) as error:
            raise StoreError(path, f"is damaged ({error})") from error
        shape = (len(keys), self.index.rows * self.index.columns, self.index.channels)
        if grids.shape != shape or grids.dtype != np.float16:
            raise StoreError(path, f"holds {grids.dtype} {grids.shape}, its keys ask for float16 {shape}")
        self._shards.append(grids)
        self._rows.update((key, (number, row)) for row, key in enumerate(keys))
