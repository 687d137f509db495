"""Batches for teacher forcing: photographs with all their captions, so that a grid is read and encoded once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from captionlens.datasets.blanked_phrases import BlankedPhrase
from captionlens.datasets.mirroring import mirror_caption
from captionlens.datasets.phrase_targets import CaptionTargets
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
        phrases: of each token the row of `coverages` that is its phrase's, or -1 (P, C, T); with boxes only.
        coverages: how much of each place the boxes of a phrase cover, from 0 to 1 (n, L) float32; with boxes only.
        keys: of the photographs here.
        blanked: those photographs that have something blanked out; None: there are none.
    """

    features: Tensor
    captions: Tensor
    caption_count: int
    word_count: int
    caption_share: float
    word_share: float
    phrases: Tensor | None = None
    coverages: Tensor | None = None
    keys: tuple[str, ...] = ()
    blanked: "BlankedBatch | None" = None

    def to(self, device: torch.device) -> "Batch":
        """The same with its tensors on a device."""
        names = ("features", "captions", "phrases", "coverages", "blanked")
        parts = {name: getattr(self, name) for name in names}
        return replace(self, **{name: part.to(device) for name, part in parts.items() if part is not None})


@dataclass(frozen=True, slots=True)
class BlankedBatch:
    """B photographs with something blanked out, `features` (B, L, D) float16, and as they are, `whole`, likewise;
    `captions` (B, C, T) int64, padded with 0, and `wanted` (B, C, T) int64, what `blanking` wants of each token."""

    features: Tensor
    whole: Tensor
    captions: Tensor
    wanted: Tensor

    def to(self, device: torch.device) -> "BlankedBatch":
        """The same on a device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


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


Item = tuple[str, list[list[int]]]  # the key of a photograph's grid, and its captions as numbers, longest first
# The keys of the grids with something blanked out and of the whole photograph, captions as numbers, and what is wanted
# of their words.
_Blanked = tuple[str, str, list[list[int]], list[NDArray[np.int64] | None]]


class CaptionedPhotographs(Dataset[Item]):
    """Photographs in the store with their captions as numbers, longest first.

    Item number n + i of n photographs is photograph i seen in a mirror, where that was asked for.

    Args:
        records: the photographs; those without a grid in the store are left out and counted in `missing`.
        max_words: longer captions are cut.
        mirror: words that trade places in a mirror, see `datasets.mirroring`; None: no photograph is mirrored.
        targets: of a photograph, one for each of its captions, or None for a caption of which nothing is known.
        blanked: of a photograph, what is blanked out in the grid that the store has of it without something.
    """

    def __init__(
        self,
        records: Sequence[Record],
        store: Grids,
        vocabulary: Vocabulary,
        max_words: int = 50,
        *,
        mirror: Mapping[str, str] | None = None,
        targets: Callable[[Record], Sequence[CaptionTargets | None]] | None = None,
        blanked: Callable[[Record], BlankedPhrase | None] | None = None,
    ) -> None:
        self.store = store
        self.missing = 0
        self.items: list[Item] = []
        self.mirrored: list[Item] = []  # of the same photographs
        self.targets: dict[str, list[CaptionTargets | None]] = {}  # by key, in the order of the captions
        self.blanked: dict[str, _Blanked] = {}  # by key
        for record in records:
            try:
                key = photograph_key(record)
            except OSError:
                key = ""
            if key not in store:
                self.missing += 1
                continue
            encoded = [_cut(vocabulary.encode(caption), max_words) for caption in record.captions]
            order = sorted(range(len(encoded)), key=lambda number: -len(encoded[number]))
            self.items.append((key, [encoded[number] for number in order]))
            known = targets(record) if targets is not None else []
            if known:
                self.targets[key] = [known[number] for number in order]
            without = blanked(record) if blanked is not None else None
            if without is not None:
                self.blanked[key] = (
                    photograph_key(record, blanked=without.cells),
                    key,
                    self.items[-1][1],
                    [without.wanted[number] for number in order],
                )
            if mirror is not None:
                plain, key = key, photograph_key(record, mirrored=True)
                if plain in self.blanked:  # one view is enough
                    self.blanked[key] = self.blanked[plain]
                swapped = [_cut(vocabulary.encode(mirror_caption(c, mirror)), max_words) for c in record.captions]
                self.mirrored.append((key, [swapped[number] for number in order]))
                if known:
                    self.targets[key] = [
                        None if target is None else target.mirrored() for target in (known[number] for number in order)
                    ]
        if not self.items:
            raise OptionError("no photograph of the training split has features")

    @property
    def caption_count(self) -> int:
        """Captions of all photographs."""
        return sum(len(captions) for _, captions in self.items)

    def keep_on(self, card: torch.device) -> None:
        """Carry all grids to a card once, if a quarter of its free memory holds them: twice, while they are joined."""
        keys = [key for key, _ in (*self.items, *self.mirrored)] + sorted({key for key, *_ in self.blanked.values()})
        size = torch.as_tensor(self.store.read(keys[:1])).nbytes * len(keys)
        if 4 * size <= torch.cuda.mem_get_info(card)[0]:
            self.store = ResidentGrids(self.store, keys, card)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index] if index < len(self.items) else self.mirrored[index - len(self.items)]

    def collate(self, items: Sequence[Item], processes: Processes = ALONE) -> Batch:
        """Photographs to one batch, or to the part of it that falls to this process."""
        captions, words = _count(items)
        own = items[processes.rank :: processes.count]
        own_captions, own_words = _count(own)
        if not own:  # fewer photographs than processes: this one takes part with a photograph that counts nothing
            own = items[:1]
        padded = _padded([numbers for _, numbers in own])
        return Batch(
            torch.as_tensor(self.store.read(key for key, _ in own)),
            torch.from_numpy(padded),
            captions,
            words,
            processes.count * own_captions / captions,
            processes.count * own_words / words,
            *self._phrases(own, padded.shape),
            keys=tuple(key for key, _ in own),
            blanked=self._blanked([self.blanked[key] for key, _ in own if key in self.blanked]),
        )

    def _blanked(self, parts: Sequence[_Blanked]) -> BlankedBatch | None:
        """`blanked` of a batch."""
        if not parts:
            return None
        captions = _padded([numbers for _, _, numbers, _ in parts])
        wanted = np.zeros_like(captions)
        for row, (*_, numbers, wishes) in enumerate(parts):
            for slot, wish in enumerate(wishes):
                if wish is not None:
                    words = len(numbers[slot]) - 2  # those that were not cut
                    wanted[row, slot, 1 : words + 1] = wish[:words]
        without, whole, *_ = zip(*parts, strict=True)
        features = torch.as_tensor(self.store.read(without))
        return BlankedBatch(
            features, torch.as_tensor(self.store.read(whole)), torch.from_numpy(captions), torch.from_numpy(wanted)
        )

    def _phrases(self, items: Sequence[Item], shape: tuple[int, ...]) -> tuple[Tensor | None, Tensor | None]:
        """`phrases` and `coverages` of a batch."""
        if not self.targets:
            return None, None
        phrases = np.full(shape, -1, np.int64)
        coverages: list[NDArray[np.float32]] = []
        known = 0
        for row, (key, captions) in enumerate(items):
            for slot, target in enumerate(self.targets.get(key, ())):
                if target is None:
                    continue
                words = len(captions[slot]) - 2  # those that were not cut; a word's place is one after its number
                numbers = target.phrase_of_word[:words]
                phrases[row, slot, 1 : words + 1] = np.where(numbers >= 0, numbers + known, -1)
                count, rows, columns = target.coverages.shape
                coverages.append(target.coverages.reshape(count, rows * columns))
                known += len(target.coverages)
        if not coverages:
            return None, None
        return torch.from_numpy(phrases), torch.from_numpy(np.concatenate(coverages))


def _padded(captions: Sequence[list[list[int]]]) -> NDArray[np.int64]:
    """Captions of P photographs in one array (P, C, T)."""
    slots = max(map(len, captions))
    longest = max(len(caption) for numbers in captions for caption in numbers)
    padded = np.full((len(captions), slots, longest), PAD, np.int64)
    for row, numbers in enumerate(captions):
        for slot, caption in enumerate(numbers):
            padded[row, slot, : len(caption)] = caption
    return padded


def _cut(numbers: list[int], max_words: int) -> list[int]:
    """A caption from `<start>` to `<end>` with at most so many words between them."""
    return numbers if len(numbers) <= max_words + 2 else numbers[: max_words + 1] + numbers[-1:]


def _count(items: Sequence[Item]) -> tuple[int, int]:
    """Captions of photographs, and their words to predict: all but `<start>`."""
    lengths = [len(caption) for _, captions in items for caption in captions]
    return len(lengths), sum(lengths) - len(lengths)


class LengthBatches(Sampler[list[int]]):
    """Batches of photographs with captions of like number and length, in an order drawn anew each epoch.

    Photographs are shuffled, sorted by length within pools of POOL batches, cut into batches of about
    `captions` captions, and the batches of a pool are shuffled: little padding, and still random.
    Where photographs may be mirrored, one in two is. All depends on seed and epoch only, so that a resumed run sees
    what it would have seen.
    """

    def __init__(self, data: CaptionedPhotographs, captions: int, seed: int, epoch: int) -> None:
        self.captions = captions
        self.seed = seed
        self.epoch = epoch
        self.shapes = [(len(c), len(c[0]), sum(map(len, c))) for _, c in data.items]
        self.mirrors = bool(data.mirrored)
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
        if self.mirrors:
            offsets = len(order) * rng.integers(0, 2, len(order))
            batches = [[index + int(offsets[index]) for index in batch] for batch in batches]
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
