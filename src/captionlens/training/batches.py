"""Data set, sampler and loader of training: batches of photographs, each with all its captions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from captionlens.datasets.blanked_phrases import BlankedPhrase
from captionlens.datasets.mirroring import mirror_caption
from captionlens.datasets.phrase_targets import CaptionTargets
from captionlens.datasets.records import Record
from captionlens.errors import OptionError
from captionlens.features.store import photograph_key
from captionlens.network.smoothed_cross_entropy import SoftTargets
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.training.batch import Batch, CaptionMasses, pad_captions
from captionlens.training.distributed import ALONE, Processes
from captionlens.training.grids import CroppedGrids, Grids, ResidentGrids
from captionlens.training.objectives.attention_supervision import phrases_and_coverages
from captionlens.training.objectives.blanking import BlankedPhotograph, blanked_batch, wanted_of_words

POOL = 32  # in batches: so many photographs are shuffled together before they are sorted by length

Item = tuple[str, list[list[int]]]  # the key of a photograph's grid, and its captions as indices, longest first


class CaptionedPhotographs(Dataset[Item]):
    """Photographs in the store with their captions as indices, longest first.

    With mirroring, item n + i of n photographs is photograph i mirrored.

    Args:
        records: the photographs; those without a grid in the store are left out and counted in `missing`.
        store: of the grids.
        vocabulary: of the captions.
        max_words: longer captions are cut.
        mirror: words that are swapped in mirrored photographs, see `datasets.mirroring`; None: no mirroring.
        targets: gives the attention targets of a photograph's captions, None for a caption without any.
        blanked: gives the phrase that is blanked out in the photograph's second grid in the store. Requires `targets`.
        draws: how often each photograph is drawn in an epoch; by default once.
        balance: of the weights of captions, from 0, where each caption counts alike, to 1, where each photograph does,
            however many captions it has: a caption's weight is the number of its photograph's captions to the power of
            minus this, in units of the mean over an epoch.
        rewarded: fewest captions of a photograph that self-critical training rewards; a reward by one or two references
            would teach their exact words.

    Raises:
        OptionError: no photograph has a grid.
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
        draws: Sequence[float] | None = None,
        balance: float = 0.0,
        rewarded: int = 1,
    ) -> None:
        self.store = store
        self.missing = 0
        self.items: list[Item] = []
        self.mirrored: list[Item] = []  # of the same photographs
        self.targets: dict[str, list[CaptionTargets | None]] = {}  # by key, in the order of the item's captions
        self.blanked: dict[str, BlankedPhotograph] = {}  # by key
        self.draws: list[float] = []  # of each item
        self.unrewarded: set[str] = set()  # keys of `views`
        self.balance = balance
        self.masses: dict[str, list[CaptionMasses]] = {}  # of teachers, by key, in the order of the item's captions
        self.distillation = 0.0
        for record, drawn in zip(records, draws or [1.0] * len(records), strict=True):
            key = _key(record)
            if key not in store:
                self.missing += 1
                continue
            encoded = [_cut(vocabulary.encode(caption), max_words) for caption in record.captions]
            order = _longest_first(encoded)
            captions = [encoded[number] for number in order]
            self.items.append((key, captions))
            self.draws.append(drawn)
            if len(captions) < rewarded:
                self.unrewarded.add(key)
            known = targets(record) if targets is not None else ()
            if known:
                self.targets[key] = [known[number] for number in order]
            phrase = blanked(record) if blanked is not None else None
            if phrase is not None:
                wanted = [wanted_of_words(phrase, target) for target in self.targets[key]]
                without = photograph_key(record, blanked=phrase.cells)
                self.blanked[key] = BlankedPhotograph(without, key, captions, wanted)
            if mirror is not None:
                swapped = [_cut(vocabulary.encode(mirror_caption(c, mirror)), max_words) for c in record.captions]
                self._mirror(key, photograph_key(record, mirrored=True), [swapped[number] for number in order])
        if not self.items:
            raise OptionError("no photograph of the training split has features")

    def _drawn(self) -> Iterator[tuple[Item, float]]:
        """The photographs, and how often each is drawn in an epoch."""
        return zip(self.items, self.draws, strict=True)

    def _mirror(self, key: str, mirrored: str, captions: list[list[int]]) -> None:
        """Add the mirrored view of the photograph `key`, with these captions."""
        self.mirrored.append((mirrored, captions))
        if key in self.unrewarded:
            self.unrewarded.add(mirrored)
        if key in self.targets:
            self.targets[mirrored] = [target and target.mirrored() for target in self.targets[key]]
        if key in self.blanked:  # one view is enough
            self.blanked[mirrored] = self.blanked[key]

    @property
    def caption_count(self) -> int:
        """Number of captions of all photographs."""
        return sum(len(captions) for _, captions in self.items)

    @cached_property
    def mean_weight(self) -> float:
        """Mean weight of a caption in an epoch, by `balance`, before it becomes the unit."""
        weights = (drawn * len(captions) ** (1 - self.balance) for (_, captions), drawn in self._drawn())
        total: float = sum(weights)
        return total / self.captions_per_epoch

    @property
    def views(self) -> list[Item]:
        """All photographs, then all mirrored ones."""
        return [*self.items, *self.mirrored]

    def add_captions(self, added: Sequence[list[list[int]]]) -> None:
        """Add captions to each of `views`; of them, no word has attention targets."""
        for items, more in ((self.items, added[: len(self.items)]), (self.mirrored, added[len(self.items) :])):
            for number, ((key, captions), extra) in enumerate(zip(items, more, strict=True)):
                together = [*captions, *extra]
                order = _longest_first(together)
                items[number] = key, [together[place] for place in order]
                if key in self.targets:
                    targets = [*self.targets[key], *[None] * len(extra)]
                    self.targets[key] = [targets[place] for place in order]
        self.__dict__.pop("mean_weight", None)

    def learn_from(self, masses: dict[str, list[CaptionMasses]], share: float) -> None:
        """Give the distributions of teachers, by the keys of `views`, a share of each word's target."""
        self.masses, self.distillation = masses, share

    @property
    def captions_per_epoch(self) -> float:
        """Expected number of captions in an epoch: of all photographs, each as often as it is drawn."""
        return sum(drawn * len(captions) for (_, captions), drawn in self._drawn())

    def keep_on(self, card: torch.device) -> None:
        """Copy all grids to a GPU if they fit into a quarter of its free memory; joining them takes twice that."""
        if isinstance(self.store, CroppedGrids):
            return
        blanked = sorted({photograph.key for photograph in self.blanked.values()})
        keys = [key for key, _ in self.views] + blanked
        size = torch.as_tensor(self.store.read(keys[:1])).nbytes * len(keys)
        if 4 * size <= torch.cuda.mem_get_info(card)[0]:
            self.store = ResidentGrids(self.store, keys, card)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index] if index < len(self.items) else self.mirrored[index - len(self.items)]

    def collate(self, items: Sequence[Item], processes: Processes = ALONE) -> Batch:
        """Collate photographs to one batch, or to this process's part of it."""
        caption_count, word_count = _count(items)
        own = items[processes.rank :: processes.count]
        own_captions, own_words = _count(own)
        if not own:  # fewer photographs than processes: this one takes part with a photograph of weight 0
            own = items[:1]
        keys, captions = zip(*own, strict=True)
        padded = pad_captions(captions)
        targets = [self._seen_targets(key) for key in keys]
        phrases, coverages = phrases_and_coverages(captions, targets, padded.shape)
        return Batch(
            torch.as_tensor(self.store.read(keys)),
            torch.from_numpy(padded),
            caption_count,
            word_count,
            processes.count * own_captions / caption_count,
            processes.count * own_words / word_count,
            keys,
            phrases,
            coverages,
            blanked_batch([self.blanked[key] for key in keys if key in self.blanked], self.store),
            self._weights(captions) if self.balance else None,
            self._soft(keys, padded.shape) if self.masses else None,
        )

    def _seen_targets(self, key: str) -> Sequence[CaptionTargets | None]:
        """Attention targets of a photograph's captions, in the part of it that the batch shows."""
        targets = self.targets.get(key, [])
        if not isinstance(self.store, CroppedGrids):
            return targets
        crop = self.store.crop(key)
        return [target and target.cropped(crop) for target in targets]

    def begin_epoch(self, epoch: int) -> None:
        """Take other crops than in the epoch before."""
        if isinstance(self.store, CroppedGrids):
            self.store.epoch = epoch

    def _soft(self, keys: Sequence[str], shape: tuple[int, ...]) -> SoftTargets:
        """The teachers' words and their masses (P, C, T, K) for captions padded to (P, C, T)."""
        kept = self.masses[keys[0]][0].words.shape[1]
        words, masses = np.zeros((*shape, kept), np.int64), np.zeros((*shape, kept), np.float32)
        for row, key in enumerate(keys):
            for slot, caption in enumerate(self.masses[key]):
                words[row, slot, 1 : len(caption.words) + 1] = caption.words
                masses[row, slot, 1 : len(caption.words) + 1] = caption.masses
        return SoftTargets(torch.from_numpy(words), torch.from_numpy(masses * np.float32(self.distillation)))

    def _weights(self, captions: Sequence[list[list[int]]]) -> torch.Tensor:
        """Weights (P, C) of the captions of P photographs."""
        counts = torch.tensor([len(of_photograph) for of_photograph in captions], dtype=torch.float32)
        weights: torch.Tensor = counts.pow(-self.balance) / self.mean_weight
        return weights[:, None].repeat(1, int(counts.max()))


def _key(record: Record) -> str:
    """The key of a photograph's grid; empty, which no store has, where the photograph cannot be read."""
    try:
        return photograph_key(record)
    except OSError:
        return ""


def _longest_first(captions: Sequence[Sequence[int]]) -> list[int]:
    """Numbers of captions from the longest to the shortest, the fastest order in `CaptioningNetwork.teach`."""
    return sorted(range(len(captions)), key=lambda number: -len(captions[number]))


def _cut(numbers: list[int], max_words: int) -> list[int]:
    """Cut a caption from `<start>` to `<end>` to at most `max_words` words between them."""
    return numbers if len(numbers) <= max_words + 2 else numbers[: max_words + 1] + numbers[-1:]


def _count(items: Sequence[Item]) -> tuple[int, int]:
    """Numbers of captions and of words to predict, all but `<start>`."""
    lengths = [len(caption) for _, captions in items for caption in captions]
    return len(lengths), sum(lengths) - len(lengths)


class LengthBatches(Sampler[list[int]]):
    """Batches of photographs whose captions are of similar number and length, reshuffled every epoch.

    Photographs are shuffled, sorted by length within pools of POOL batches and cut into batches of about `captions`
    captions; then the batches of a pool are shuffled. That keeps padding low and the order random. With mirroring, one
    photograph in two is mirrored. A photograph that is drawn 1.5 times comes once or twice. Everything depends on seed
    and epoch alone, so that a resumed run continues with the same batches. Photographs that self-critical training
    rewards share no batch with others.

    Args:
        data: the photographs.
        captions: in a batch.
        seed: of the order.
        epoch: number of the epoch, from 0.
        sampled: captions that are sampled for each rewarded photograph; 0: its own captions fill the batch.
    """

    def __init__(self, data: CaptionedPhotographs, captions: int, seed: int, epoch: int, *, sampled: int = 0) -> None:
        self.captions = captions
        self.seed = seed
        self.epoch = epoch
        # Whether a photograph's own captions fill the batch, how many do, the longest one's length, and that of all.
        owns = [not sampled or key in data.unrewarded for key, _ in data.items]
        self.shapes = [
            (own, len(c) if own else sampled, len(c[0]), sum(map(len, c)))
            for own, (_, c) in zip(owns, data.items, strict=True)
        ]
        self.draws = np.array(data.draws)
        self.mirrors = bool(data.mirrored)
        captions_drawn = sum(shape[1] * drawn for shape, drawn in zip(self.shapes, data.draws, strict=True))
        self.mean_captions = max(1.0, captions_drawn / self.draws.sum())

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())

    def _batches(self) -> list[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(self._drawn(rng))
        pool = max(1, int(POOL * self.captions / self.mean_captions))
        batches: list[list[int]] = []
        for begin in range(0, len(order), pool):
            chunk = sorted(order[begin : begin + pool].tolist(), key=lambda index: self.shapes[index])
            cut = self._cut(chunk)
            batches.extend(cut[index] for index in rng.permutation(len(cut)))
        if self.mirrors:
            count = len(self.shapes)
            mirrored = rng.integers(0, 2, count)
            for batch in batches:
                for place, index in enumerate(batch):
                    batch[place] = index + count * int(mirrored[index])
                    mirrored[index] = 1 - mirrored[index]  # drawn twice, it is seen from both sides
        return batches

    def _drawn(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The photographs of this epoch by their numbers, ascending, each as often as it is drawn."""
        whole = np.floor(self.draws).astype(np.int64)
        if (whole != self.draws).any():
            whole += rng.random(len(whole)) < self.draws - whole
        return np.repeat(np.arange(len(whole)), whole)

    def _cut(self, chunk: list[int]) -> list[list[int]]:
        """Cut sorted photographs into batches of at most `captions` caption rows."""
        batches: list[list[int]] = [[]]
        for index in chunk:
            rows = (len(batches[-1]) + 1) * self.shapes[index][1]
            if batches[-1] and (rows > self.captions or self.shapes[index][0] != self.shapes[batches[-1][-1]][0]):
                batches.append([])
            batches[-1].append(index)
        return batches


def training_loader(
    data: CaptionedPhotographs,
    *,
    captions: int,
    seed: int,
    epoch: int,
    sampled: int = 0,
    processes: Processes = ALONE,
) -> DataLoader[Batch]:
    """Make a loader of batches of about `captions` captions in the order of this epoch, see `LengthBatches`.

    All processes iterate over the same batches; each gets its own part of every batch.
    """
    return DataLoader(
        data,  # type: ignore[arg-type]  # collate makes batches of the items
        batch_sampler=LengthBatches(data, captions, seed, epoch, sampled=sampled),
        collate_fn=partial(data.collate, processes=processes),
        generator=torch.Generator(),  # its own, so that making a loader does not advance the random state of dropout
    )
