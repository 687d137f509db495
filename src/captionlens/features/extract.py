"""Run the frozen backbone over every photograph once, into the feature store."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from captionlens.datasets.records import Record
from captionlens.errors import OptionError, UnreadableImage
from captionlens.features.backbones.base import Backbone, has_fast_bfloat16
from captionlens.features.store import SHARD, FeatureStore, StoreIndex, photograph_key
from captionlens.geometry.cells import blank
from captionlens.memory import keep_freed_memory
from captionlens.runtime.images import Preprocessing

# Photographs in a batch; on a processor, what a layer makes of 8 is still in its cache for the next layer. Both divide
# SHARD: a resumed extraction forms the same batches and ends with the same bytes.
CPU_BATCH, CARD_BATCH = 8, 64
DECODED_AHEAD = 64  # photographs


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came of an extraction."""

    store: FeatureStore
    extracted: int  # photographs run through the backbone now
    already: int  # photographs whose grid was there
    unreadable: tuple[UnreadableImage, ...]


def store_index(backbone: Backbone) -> StoreIndex:
    """What the grids of `backbone` are; call it before the backbone is fused."""
    rows, columns = backbone.grid
    return StoreIndex(backbone.name, backbone.fingerprint(), rows, columns, backbone.channels)


def accelerator(devices: str) -> str:
    """The device that `devices` ("auto", "cpu" or "cuda") means: "cpu" or "cuda".

    Raises:
        OptionError: another word, or cuda where there is no card.
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
    """Put the grids of all photographs that are not in the store yet into it.

    Can be killed at any moment; called again it goes on after the last whole shard. The backbone is fused for
    inference on the way.

    Args:
        records: the photographs.
        folder: the store's.
        backbone: as loaded, not fused.
        device: where the backbone runs.
        bfloat16: compute in bfloat16; by default where the processor has it. Grids are kept as float16.
        decoders: threads that read and resize photographs, by default one for each core: ahead of a network on a
            card, and by turns with a network on the processor, where each would slow the other down.
        mirrored: put in the grids of the photographs seen in a mirror, beside those of the photographs themselves.
        blanked: put in the grids of the photographs with the cells (R, C) blanked out that it gives of each; those
            of which it gives None are left out. See `attention.faithfulness.blank`.
        progress: show a bar on a terminal.

    Raises:
        StoreError: the folder holds something else, or a store made otherwise.
    """
    store = FeatureStore.create(folder, store_index(backbone))
    missing: list[tuple[str, Record]] = []
    without: dict[str, NDArray[np.bool_]] = {}  # by key, cells that are blanked out
    unreadable: list[UnreadableImage] = []
    seen: set[str] = set()
    for record in records:
        cells = blanked(record) if blanked is not None else None
        if blanked is not None and cells is None:
            continue
        try:
            key = photograph_key(record, mirrored=mirrored, blanked=cells)
        except OSError as error:
            unreadable.append(UnreadableImage(record.image, error.strerror or str(error)))
            continue
        if key not in store and key not in seen:
            missing.append((key, record))
            if cells is not None:
                without[key] = cells
        seen.add(key)
    already = len(seen) - len(missing)
    if bfloat16 is None:
        bfloat16 = device == "cpu" and has_fast_bfloat16()
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    on_processor = torch.device(device).type == "cpu"
    batch_size = CPU_BATCH if on_processor else CARD_BATCH
    if decoders is None:
        decoders = os.cpu_count() or 2
    keep_freed_memory()
    network = Prepared(backbone, device, dtype)

    extracted = 0
    writing: Future[None] | None = None
    keys: list[str] = []
    grids: list[NDArray[np.float16]] = []
    bar = tqdm(total=len(missing), desc="features", unit="photo", disable=None if progress else True)
    # One thread writes a shard while the network makes the next.
    with bar, ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        decoded = _decoded_by_turns if on_processor else _decoded
        for batch in _batches(decoded(missing, backbone.preprocessing, decoders), batch_size):
            good = [(key, pixels) for key, pixels in batch if not isinstance(pixels, UnreadableImage)]
            unreadable.extend(pixels for _, pixels in batch if isinstance(pixels, UnreadableImage))
            if good:
                pixels = np.stack(
                    [blank(pixels, without[key]) if key in without else pixels for key, pixels in good]
                )  # (B, H, W, 3)
                grids.append(network(np.ascontiguousarray(pixels[:, :, ::-1]) if mirrored else pixels))
                keys.extend(key for key, _ in good)
            extracted += len(good)
            bar.update(len(batch))
            if len(keys) >= SHARD:
                if writing is not None:
                    writing.result()
                writing = writer.submit(store.append, keys, np.concatenate(grids))
                keys, grids = [], []
        if writing is not None:
            writing.result()
        if keys:
            store.append(keys, np.concatenate(grids))
    return Extraction(store, extracted, already, tuple(unreadable))


class Prepared:
    """A backbone made ready for many photographs: fused, channels last, in one number format.

    Args:
        backbone: as loaded; it is changed.
        device: where it runs.
        dtype: of the computation.
    """

    def __init__(self, backbone: Backbone, device: str, dtype: torch.dtype) -> None:
        network = backbone.fuse().to(device=device, dtype=dtype)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        self.device, self.dtype = device, dtype
        self.scale, self.shift = (
            torch.from_numpy(values).to(device).view(3, 1, 1) for values in backbone.preprocessing.scale_and_shift()
        )

    @torch.inference_mode()
    def images(self, pixels: NDArray[np.uint8]) -> Tensor:
        """uint8 (B, H, W, 3) to images (B, 3, H, W), normalised."""
        # Pillow's order of bytes is torch's channels last.
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        return torch.addcmul(self.shift, images, self.scale).to(self.dtype)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Photographs as `Preprocessing.read` gives them (B, H, W, 3) to grids (B, L, D)."""
        # Halves end at 65504; no feature of a sane network comes near, but infinity would poison the training.
        grids = self.network(self.images(pixels)).float().clamp(-65504, 65504)
        halves: NDArray[np.float16] = grids.half().cpu().numpy()
        return halves


def _decode(record: Record, preprocessing: Preprocessing) -> NDArray[np.uint8] | UnreadableImage:
    try:
        return preprocessing.read(record.image)
    except UnreadableImage as error:
        return error


def _decoded(
    photographs: Iterable[tuple[str, Record]], preprocessing: Preprocessing, threads: int
) -> Iterator[tuple[str, NDArray[np.uint8] | UnreadableImage]]:
    """Photographs in order, decoded by threads a bounded number ahead (Pillow lets other threads run)."""
    ahead: deque[tuple[str, Future[NDArray[np.uint8] | UnreadableImage]]] = deque()
    waiting = iter(photographs)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        while True:
            for key, record in islice(waiting, DECODED_AHEAD - len(ahead)):
                ahead.append((key, pool.submit(_decode, record, preprocessing)))
            if not ahead:
                return
            key, future = ahead.popleft()
            yield key, future.result()


def _decoded_by_turns(
    photographs: Iterable[tuple[str, Record]], preprocessing: Preprocessing, threads: int
) -> Iterator[tuple[str, NDArray[np.uint8] | UnreadableImage]]:
    """Photographs in order, decoded some at a time while the network waits; beside it, files are only read ahead."""
    waiting = iter(photographs)
    some = list(islice(waiting, DECODED_AHEAD))
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
        ThreadPoolExecutor(1, thread_name_prefix="read") as reader,
    ):
        while some:
            pixels = list(pool.map(lambda photograph: _decode(photograph[1], preprocessing), some))
            keys = [key for key, _ in some]
            some = list(islice(waiting, DECODED_AHEAD))
            reader.submit(_read_ahead, [record for _, record in some])
            yield from zip(keys, pixels, strict=True)


def _read_ahead(records: Iterable[Record]) -> None:
    """Bring files into the system's cache."""
    for record in records:
        with suppress(OSError):  # told when it is decoded
            record.image.read_bytes()


def _batches(
    items: Iterator[tuple[str, NDArray[np.uint8] | UnreadableImage]], size: int
) -> Iterator[list[tuple[str, NDArray[np.uint8] | UnreadableImage]]]:
    while batch := list(islice(items, size)):
        yield batch
