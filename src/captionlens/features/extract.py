"""Extraction of grid features: the frozen backbone runs over every photograph once, into the feature store."""

import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from captionlens.datasets.records import Record
from captionlens.errors import OptionError, UnreadableImage
from captionlens.features.backbones.base import Backbone, has_fast_bfloat16
from captionlens.features.compiled import CompiledBackbone, compiling_pays
from captionlens.features.store import LARGEST, SHARD, FeatureStore, StoreIndex, photograph_key
from captionlens.geometry.grid_cells import blank
from captionlens.memory import keep_freed_memory
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.read_ahead import read_ahead, read_by_turns

# Photographs per batch; on a processor, a layer's output for 8 is still in its cache for the next layer. Both divide
# SHARD, so that a resumed extraction forms the same batches and ends with the same bytes.
CPU_BATCH, CARD_BATCH = 8, 64
DECODED_AHEAD = 64  # photographs
# So many photographs make up for the time that compiling takes. Those that are done count, so that a resumed extraction
# computes as one undisturbed.
WORTH_COMPILING = 500


@dataclass(frozen=True, slots=True)
class Extraction:
    """Result of an extraction."""

    store: FeatureStore
    extracted: int  # photographs encoded in this call
    already: int  # photographs whose grid was in the store
    unreadable: tuple[UnreadableImage, ...]


def store_index(backbone: Backbone) -> StoreIndex:
    """Make the index of a store of grids of `backbone`, which is as loaded, not fused."""
    rows, columns = backbone.grid
    return StoreIndex(backbone.name, backbone.fingerprint(), rows, columns, backbone.channels)


def accelerator(devices: str) -> str:
    """Resolve `devices` ("auto", "cpu" or "cuda") to "cpu" or "cuda".

    Raises:
        OptionError: another value, or cuda without a GPU.
    """
    if devices == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if devices not in ("cpu", "cuda"):
        raise OptionError(f"devices must be auto, cpu or cuda, got {devices!r}")
    if devices == "cuda" and not torch.cuda.is_available():
        raise OptionError("devices cuda: this PyTorch sees no CUDA card")
    return devices


def extract(
    records: Sequence[Record],
    folder: str | Path,
    backbone: Backbone,
    *,
    device: str = "cpu",
    bfloat16: bool | None = None,
    decoders: int | None = None,
    mirrored: bool = False,
    blanked: Callable[[Record], NDArray[np.bool_] | None] | None = None,
    progress: bool = True,
) -> Extraction:
    """Extract the grids of all photographs that are not in the store yet.

    It can be killed at any moment; called again, it continues after the last complete shard.

    Args:
        records: the photographs.
        folder: of the store.
        backbone: as loaded, not fused; it is not changed.
        device: of the backbone.
        bfloat16: compute in bfloat16; by default where the processor has it. Grids are stored as float16.
        decoders: threads that read and resize photographs, by default one per core: ahead of a network on a GPU, and
            by turns with a network on the processor, where each would slow the other down.
        mirrored: extract the grids of the mirrored photographs too.
        blanked: gives the cells (R, C) to blank out in a photograph, whose grid is then extracted too; None for no
            such grid. See `geometry.grid_cells.blank`.
        progress: show a bar on a terminal.

    Raises:
        StoreError: the folder holds something else, or a store of another backbone.
    """
    store = FeatureStore.create(folder, store_index(backbone))
    missing, already, unreadable = _missing(records, store, mirrored, blanked)
    on_processor = torch.device(device).type == "cpu"
    if bfloat16 is None:
        bfloat16 = device == "cpu" and has_fast_bfloat16()
    keep_freed_memory()
    network: Prepared | CompiledBackbone
    if on_processor and not bfloat16 and len(records) >= WORTH_COMPILING and compiling_pays():
        network = CompiledBackbone(backbone)
    else:
        network = Prepared(backbone, device, torch.bfloat16 if bfloat16 else torch.float32)

    extracted = 0
    photographs = (Photograph(one.record.image) for one in missing)
    read = read_by_turns if on_processor else read_ahead
    threads = decoders or os.cpu_count() or 2
    decoded = read(photographs, backbone.preprocessing, ahead=DECODED_AHEAD, threads=threads)
    bar = tqdm(total=len(missing), desc="features", unit="photo", disable=None if progress else True)
    with bar, _ShardWriter(store) as writer:
        wanted = ((one, pixels) for one, (_, pixels) in zip(missing, decoded, strict=True))
        while batch := list(islice(wanted, CPU_BATCH if on_processor else CARD_BATCH)):
            good = [(one, pixels) for one, pixels in batch if not isinstance(pixels, UnreadableImage)]
            unreadable.extend(pixels for _, pixels in batch if isinstance(pixels, UnreadableImage))
            if good:
                seen = np.stack([one.seen(pixels) for one, pixels in good])  # (B, H, W, 3)
                writer.add([one.key for one, _ in good], network(seen))
            extracted += len(good)
            bar.update(len(batch))
    return Extraction(store, extracted, already, tuple(unreadable))


@dataclass(frozen=True, slots=True, eq=False)
class _Missing:
    """A view of a photograph whose grid the store lacks."""

    key: str
    record: Record
    mirrored: bool
    blanked: NDArray[np.bool_] | None  # cells (R, C)

    def seen(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Apply mirroring or blanking to the photograph (H, W, 3)."""
        if self.blanked is not None:
            pixels = blank(pixels, self.blanked)
        return pixels[:, ::-1] if self.mirrored else pixels


def _missing(
    records: Sequence[Record],
    store: FeatureStore,
    mirrored: bool,
    blanked: Callable[[Record], NDArray[np.bool_] | None] | None,
) -> tuple[list[_Missing], int, list[UnreadableImage]]:
    """The views whose grids the store lacks, the number it has, and the photographs whose files are missing."""
    missing: list[_Missing] = []
    gone: list[UnreadableImage] = []
    keys: set[str] = set()
    for record in records:
        cells = blanked(record) if blanked is not None else None
        if blanked is not None and cells is None:
            continue
        try:
            key = photograph_key(record, mirrored=mirrored, blanked=cells)
        except OSError as error:
            gone.append(UnreadableImage(record.image, error.strerror or str(error)))
            continue
        if key not in store and key not in keys:
            missing.append(_Missing(key, record, mirrored, cells))
        keys.add(key)
    return missing, len(keys) - len(missing), gone


class _ShardWriter:
    """Appends grids to a store shard by shard: a thread writes one while the network computes the next.

    The rest, less than a shard, is written at the end of the block, unless the block failed.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: Future[None] | None = None
        self._keys: list[str] = []
        self._grids: list[NDArray[np.float16]] = []

    def __enter__(self) -> "_ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._thread:
            if error is None:
                self._write()
                self._wait()

    def add(self, keys: Sequence[str], grids: NDArray[np.float16]) -> None:
        """Take the grids (B, L, D) of these keys.

        Raises:
            OSError: the previous shard could not be written.
        """
        self._keys.extend(keys)
        self._grids.append(grids)
        if len(self._keys) >= SHARD:
            self._write()

    def _write(self) -> None:
        self._wait()
        if self._keys:
            self._writing = self._thread.submit(self._store.append, self._keys, np.concatenate(self._grids))
            self._keys, self._grids = [], []

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()


class Prepared:
    """A backbone prepared for fast inference: fused, channels last, in one number format.

    Args:
        backbone: as loaded; it is not changed.
        device: to run on.
        dtype: of the computation.
    """

    def __init__(self, backbone: Backbone, device: str, dtype: torch.dtype) -> None:
        network = copy.deepcopy(backbone).fuse().to(device=device, dtype=dtype)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        self.device, self.dtype = device, dtype
        self.scale, self.shift = (
            torch.from_numpy(values).to(device).view(3, 1, 1) for values in backbone.preprocessing.scale_and_shift()
        )

    @torch.inference_mode()
    def images(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Normalise uint8 (B, H, W, 3) to images (B, 3, H, W)."""
        # Pillow's memory layout is torch's channels last.
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        return torch.addcmul(self.shift, images, self.scale).to(self.dtype)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Encode photographs (B, H, W, 3), see `Preprocessing.read`, as grids (B, L, D)."""
        halves: NDArray[np.float16] = self.grids(pixels).cpu().numpy()
        return halves

    def grids(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Encode photographs (B, H, W, 3) as grids (B, L, D) float16 on the device."""
        with torch.inference_mode():
            halves: Tensor = self.network(self.images(pixels)).float().clamp(-LARGEST, LARGEST).half()
        return halves.clone()  # outside of inference mode, so that layers with gradients may read it
