"""The feature store: every photograph's grid once, in half precision, in memory-mapped shards.

A store is a folder:

    index.json           what the grids are: backbone, its fingerprint, grid, channels
    shard-00000.npy      float16 (photographs, L, D), an ordinary NumPy file
    shard-00000.json     the keys of its rows, in order

A shard counts once its `.json` is there; both files appear whole or not at all, so that a killed extraction
loses no more than the shard it was working on. This module needs NumPy only.
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
SHARD = 256  # photographs; 53 MB of EfficientNet-Lite2's 81 x 1280 halves


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """What the grids in a store are. Stores whose index differs are never mixed."""

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
    """The key of a photograph's grid: its id and the size of its file, so that a changed file is seen.

    The photograph seen in a mirror has a grid of its own: what a convolutional network makes of it is not the
    mirrored grid. So has the photograph without some cells (R, C), `blanked`.

    Raises:
        OSError: the file is not there.
    """
    key = f"{record.source_id}:{record.image.stat().st_size}"
    if blanked is not None:
        key += f":without-{np.packbits(blanked).tobytes().hex()}"
    return key + (":mirrored" if mirrored else "")


class FeatureStore:
    """Grids by key. Open an existing store with `open`, or make one with `create`."""

    def __init__(self, folder: Path, index: StoreIndex) -> None:
        self.folder = folder
        self.index = index
        self._shards: list[NDArray[np.float16]] = []
        self._rows: dict[str, tuple[int, int]] = {}  # key -> shard, row
        while self._shard_path(len(self._shards)).with_suffix(".json").exists():
            self._add_shard(len(self._shards))

    @classmethod
    def open(cls, folder: str | Path) -> "FeatureStore":
        """An existing store.

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
        """The store in `folder`, made if it is not there.

        Raises:
            StoreError: a store is there that was made otherwise; the message says in what it differs.
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
        """Refuse to go on unless this store's grids are those `index` describes.

        Raises:
            StoreError: they are not; the message says in what they differ.
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
        """Add one shard, whole or not at all.

        Args:
            keys: one for each photograph, none of them in the store yet.
            grids: float16 (photographs, L, D).
        """
        number = len(self._shards)
        path = self._shard_path(number)
        with atomic_open(path) as file:
            np.save(file, grids)
        write_text(path.with_suffix(".json"), json.dumps(list(keys)) + "\n")
        self._add_shard(number)

    def read(self, keys: Iterable[str]) -> NDArray[np.float16]:
        """Grids (n, L, D) of `keys`, in their order.

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
