"""Batches for teacher forcing: photographs with all their captions, so that a grid is read and encoded once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from captionlens.datasets.records import Record
from captionlens.errors import OptionError
from captionlens.features.store import photograph_key
from captionlens.runtime.vocabulary import PAD, Vocabulary
from captionlens.training.distributed import ALONE, Processes

POOL = 32  # batches' worth of photographs that are shuffled together before sorting by length

_CARRIED = 256  # photographs whose grids go to a card at once


@dataclass(frozen=True, slots=True)
class Batch:
    """P photographs: `features` (P, L, D) float16 and `captions` (P, C, T) int64, padded with 0.

    Where several processes train together, these are one process's part of a batch.

    Attributes:
        caption_count: captions of the whole batch.
        word_count: words to predict in the whole batch, `<end>` among them.
        caption_share: captions here, as a part of the mean of all processes; 1 where there is one process.
        word_share: likewise words.
        keys: of the photographs here.
    """

    features: Tensor
    captions: Tensor
    caption_count: int
    word_count: int
    caption_share: float
    word_share: float
    keys: tuple[str, ...] = ()


class Grids(Protocol):
    """Where grids are read: a feature store, or a card's memory."""

    def __contains__(self, key: str) -> bool: ...

    def read(self, keys: Iterable[str]) -> NDArray[np.float16] | Tensor:
        """Grids (n, L, D) of these photographs, in their order."""
        ...


class ResidentGrids:
    """Grids of many photographs in the memory of a device, float16; read there, nothing is carried to it any more.

    Args:
        grids: to take them from, once.
        keys: of the photographs.
        device: where they go.
    """

    def __init__(self, grids: Grids, keys: Sequence[str], device: torch.device) -> None:
        self.rows = {key: row for row, key in enumerate(keys)}
        parts = (keys[begin : begin + _CARRIED] for begin in range(0, len(keys), _CARRIED))
        self.grids = torch.cat([torch.as_tensor(grids.read(part)).to(device) for part in parts])

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def read(self, keys: Iterable[str]) -> Tensor:
        """Grids (n, L, D) of these photographs, in their order, on the device."""
        return self.grids[torch.tensor([self.rows[key] for key in keys], device=self.grids.device)]


class CaptionedPhotographs(Dataset[tuple[str, list[list[int]]]]):
    """Photographs in the store with their captions as numbers, longest first.

    Args:
        records: the photographs; those without a grid in the store are left out and counted in `missing`.
        max_words: longer captions are cut.
    """

    def __init__(self, records: Sequence[Record], store: Grids, vocabulary: Vocabulary, max_words: int = 50) -> None:
        self.store = store
        self.missing = 0
        self.items: list[tuple[str, list[list[int]]]] = []
        for record in records:
            try:
                key = photograph_key(record)
            except OSError:
                key = ""
            if key not in store:
                self.missing += 1
                continue
            encoded = [vocabulary.encode(caption) for caption in record.captions]
            encoded = [numbers[: max_words + 1] + numbers[-1:] if len(numbers) > max_words + 2 else numbers
                       for numbers in encoded]  # fmt: skip
            self.items.append((key, sorted(encoded, key=len, reverse=True)))
        if not self.items:
            raise OptionError("no photograph of the training split has features")

    @property
    def caption_count(self) -> int:
        """Captions of all photographs."""
        return sum(len(captions) for _, captions in self.items)

    def keep_on(self, card: torch.device) -> None:
        """Carry all grids to a card once, if a quarter of its free memory holds them: twice, while they are joined."""
        size = torch.as_tensor(self.store.read([self.items[0][0]])).nbytes * len(self.items)
        if 4 * size <= torch.cuda.mem_get_info(card)[0]:
            self.store = ResidentGrids(self.store, [key for key, _ in self.items], card)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[str, list[list[int]]]:
        return self.items[index]

    def collate(self, items: Sequence[tuple[str, list[list[int]]]], processes: Processes = ALONE) -> Batch:
        """Photographs to one batch, or to the part of it that falls to this process."""
        captions, words = _count(items)
        own = items[processes.rank :: processes.count]
        own_captions, own_words = _count(own)
        if not own:  # fewer photographs than processes: this one takes part with a photograph that counts nothing
            own = items[:1]
        slots = max(len(numbers) for _, numbers in own)
        longest = max(len(caption) for _, numbers in own for caption in numbers)
        padded = np.full((len(own), slots, longest), PAD, np.int64)
        for row, (_, numbers) in enumerate(own):
            for slot, caption in enumerate(numbers):
                padded[row, slot, : len(caption)] = caption
        return Batch(
            torch.as_tensor(self.store.read(key for key, _ in own)),
            torch.from_numpy(padded),
            captions,
            words,
            processes.count * own_captions / captions,
            processes.count * own_words / words,
            keys=tuple(key for key, _ in own),
        )


def _count(items: Sequence[tuple[str, list[list[int]]]]) -> tuple[int, int]:
    """Captions of photographs, and their words to predict: all but `<start>`."""
    lengths = [len(caption) for _, captions in items for caption in captions]
    return len(lengths), sum(lengths) - len(lengths)


class LengthBatches(Sampler[list[int]]):
    """Batches of photographs with captions of like number and length, in an order drawn anew each epoch.

    Photographs are shuffled, sorted by length within pools of POOL batches, cut into batches of about
    `captions` captions, and the batches of a pool are shuffled: little padding, and still random.
    The order depends on seed and epoch only, so that a resumed run sees what it would have seen.
    """

    def __init__(self, data: CaptionedPhotographs, captions: int, seed: int, epoch: int) -> None:
        self.captions = captions
        self.seed = seed
        self.epoch = epoch
        self.shapes = [(len(c), len(c[0]), sum(map(len, c))) for _, c in data.items]
        self.mean_captions = max(1.0, sum(shape[0] for shape in self.shapes) / len(self.shapes))

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())

    def _batches(self) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.shapes))
        pool = max(1, int(POOL * self.captions / self.mean_captions))
        batches: list[list[int]] = []
        for begin in range(0, len(order), pool):
            chunk = sorted(order[begin : begin + pool].tolist(), key=lambda index: self.shapes[index])
            cut = self._cut(chunk)
            batches.extend(cut[index] for index in rng.permutation(len(cut)))
        return batches

    def _cut(self, chunk: list[int]) -> list[list[int]]:
        """Sorted photographs into batches of at most `captions` caption rows."""
        batches: list[list[int]] = [[]]
        for index in chunk:
            rows = (len(batches[-1]) + 1) * self.shapes[index][0]
            if batches[-1] and rows > self.captions:
                batches.append([])
            batches[-1].append(index)
        return batches


def training_loader(
    data: CaptionedPhotographs, *, captions: int, seed: int, epoch: int, processes: Processes = ALONE
) -> DataLoader[Batch]:
    """Batches of about `captions` captions in the order of this epoch, see `LengthBatches`.

    Several processes go through the same batches; each gets its own part of every batch.
    """
    return DataLoader(
        data,  # type: ignore[arg-type]  # collate makes batches of the items
        batch_sampler=LengthBatches(data, captions, seed, epoch),
        collate_fn=partial(data.collate, processes=processes),
        generator=torch.Generator(),  # its own, so that making a loader draws nothing from dropout's numbers
    )
