"""Validation of a data set before a long run: unreadable photographs, duplicates, vocabulary coverage."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from captionlens.datasets.records import SPLITS, Dataset, Problem, Record, count_captions
from captionlens.datasets.splits import for_training
from captionlens.errors import OptionError, UnreadableImage
from captionlens.runtime.images import read_image
from captionlens.runtime.vocabulary import split_words

LONGEST = 50  # words; a longer "caption" is nearly always a paragraph in the wrong column
GRID_BYTES = 81 * 1280 * 2  # EfficientNet-Lite2's 9 x 9 grid of 1280 channels in half precision

# A JPEG is decoded at the smallest of its scales of at least so many pixels a side: three times as fast, while
# all of its data is still read.
_DRAFT = 256


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage of a split's captions by the vocabulary of the train split, or of all train splits together."""

    split: str  # val, or test where there is no val
    vocabulary_size: int
    train_words: int  # different words in train
    words: int  # words in the captions of `split`, each as often as it occurs
    unknown: int  # of these, those outside the vocabulary
    examples: tuple[str, ...]  # the most frequent unknown words

    @property
    def unknown_share(self) -> float:
        """Unknown words as a fraction of all."""
        return self.unknown / self.words if self.words else 0.0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Result of a check. `problems` holds everything that is wrong; a data set without any is fine."""

    name: str
    root: str
    layout: str
    photographs: dict[str, int]  # by split
    captions: dict[str, int]  # by split
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    coverage: Coverage | None  # None: no train split, or no other split to compare with
    feature_bytes: int  # on disk, of the photographs that training uses

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def counts(self) -> dict[str, int]:
        """Number of photographs, captions or lines with each kind of problem."""
        counts: Counter[str] = Counter()
        for problem in self.problems:
            counts[problem.kind] += problem.count
        return dict(sorted(counts.items()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        coverage = self.coverage
        return {
            "name": self.name,
            "root": self.root,
            "layout": self.layout,
            "ok": self.ok,
            "splits": {
                split: {"photographs": self.photographs[split], "captions": self.captions[split]} for split in SPLITS
            },
            "counts": self.counts(),
            "problems": [problem.to_dict() for problem in self.problems],
            "notes": list(self.notes),
            "vocabulary": None
            if coverage is None
            else {
                "split": coverage.split,
                "size": coverage.vocabulary_size,
                "train_words": coverage.train_words,
                "words": coverage.words,
                "unknown": coverage.unknown,
                "unknown_share": round(coverage.unknown_share, 6),
                "examples": list(coverage.examples),
            },
            "feature_bytes": self.feature_bytes,
        }

    def to_text(self) -> str:
        """Summary in a few lines, without the single problems."""
        lines = [f"{self.name} ({self.layout}) in {self.root}"]
        for split in SPLITS:
            if self.photographs[split]:
                photographs, captions = self.photographs[split], self.captions[split]
                lines.append(f"  {split:<6} {photographs:>9,} photographs {captions:>10,} captions")
        lines.append(f"  features need {self.feature_bytes / 1e9:.2f} GB of disk")
        if self.coverage is not None:
            c = self.coverage
            line = f"  vocabulary: {c.unknown_share:.2%} of the words in {c.split} are outside the"
            line += f" {min(c.vocabulary_size, c.train_words):,} commonest of train's {c.train_words:,}"
            lines.append(line + (f" ({', '.join(c.examples)} ...)" if c.examples else ""))
        lines += [f"  note: {note}" for note in self.notes]
        if self.ok:
            lines.append("  no problems")
        else:
            lines += [f"  {kind}: {count:,}" for kind, count in self.counts().items()]
        return "\n".join(lines)


def check_datasets(
    datasets: Sequence[Dataset], *, vocabulary_size: int = 5000, progress: bool = False
) -> tuple[list[CheckReport], tuple[Problem, ...]]:
    """Check data sets that are used together: each by itself, with the vocabulary of all, and one against another.

    Returns:
        A report for each data set, and the photographs that occur in two of them.

    Raises:
        OptionError: the size is less than 1.
    """
    train = _count_words([record for dataset in datasets for record in dataset.records if record.split == "train"])
    seen: dict[bytes, tuple[Dataset, Record]] = {}
    reports, shared = [], []
    for dataset in datasets:
        contents: dict[bytes, list[Record]] = {}
        reports.append(_check(dataset, train, vocabulary_size, GRID_BYTES, None, progress, contents))
        for digest, (record, *_) in contents.items():
            if digest not in seen:
                seen[digest] = dataset, record
                continue
            other, there = seen[digest]
            kind = "duplicate-image" if there.split == record.split else "in-two-splits"
            cause = f"the same photograph ({record.split}) as {there.image.name} of {other.name} ({there.split})"
            shared.append(Problem(str(record.image), cause, kind))
    return reports, tuple(shared)


def check_dataset(
    dataset: Dataset,
    *,
    vocabulary_size: int = 5000,
    bytes_per_photograph: int = GRID_BYTES,
    workers: int | None = None,
    progress: bool = False,
) -> CheckReport:
    """Read every photograph and every caption of a data set, and report.

    Args:
        dataset: of `read_dataset`; its own problems are part of the report.
        vocabulary_size: number of train's most frequent words that form the vocabulary.
        bytes_per_photograph: size of one photograph's features on disk.
        workers: number of decoding threads; by default one per processor.
        progress: show a bar on stderr, on a terminal only.

    Raises:
        OptionError: a size or the number of workers is less than 1.
    """
    for option, value in (("vocabulary_size", vocabulary_size), ("workers", workers)):
        if value is not None and value < 1:
            raise OptionError(f"{option} must be at least 1, got {value}")
    train = _count_words([record for record in dataset.records if record.split == "train"])
    return _check(dataset, train, vocabulary_size, bytes_per_photograph, workers, progress, {})


def _check(
    dataset: Dataset,
    train: Counter[str],
    vocabulary_size: int,
    bytes_per_photograph: int,
    workers: int | None,
    progress: bool,
    by_content: dict[bytes, list[Record]],
) -> CheckReport:
    """Check one data set, with the words of `train`; fill `by_content` with its photographs by their SHA-256."""
    records = dataset.records
    problems = list(dataset.problems)
    for record, (digest, cause) in zip(records, _looks(records, workers, progress), strict=True):
        if cause is not None:
            problems.append(Problem(str(record.image), cause, "unreadable-image"))
        if digest is not None:
            by_content.setdefault(digest, []).append(record)
    problems += _twice(by_content)
    problems += _overlong(records)
    by_split = {split: [record for record in records if record.split == split] for split in SPLITS}
    return CheckReport(
        name=dataset.name,
        root=str(dataset.root),
        layout=dataset.layout,
        photographs={split: len(some) for split, some in by_split.items()},
        captions={split: count_captions(some) for split, some in by_split.items()},
        problems=tuple(problems),
        notes=dataset.notes,
        coverage=_coverage(by_split, train, vocabulary_size),
        feature_bytes=len(for_training(records)) * bytes_per_photograph,
    )


def _looks(records: Sequence[Record], workers: int | None, progress: bool) -> Iterator[tuple[bytes | None, str | None]]:
    """Yield for every record the SHA-256 of its file and the cause why it cannot be read, either of them None."""
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)  # Pillow and hashlib release the interpreter's lock
    try:
        looks = pool.map(_look, records)
        yield from tqdm(looks, total=len(records), desc="photographs", unit="", disable=None if progress else True)
    finally:
        pool.shutdown(cancel_futures=True)


def _look(record: Record) -> tuple[bytes | None, str | None]:
    try:
        content = record.image.read_bytes()
    except OSError as error:
        return None, error.strerror or str(error)
    digest = hashlib.sha256(content).digest()
    try:
        read_image(content, draft_size=_DRAFT)
    except UnreadableImage as error:
        return digest, error.cause
    return digest, None


def _twice(by_content: dict[bytes, list[Record]]) -> Iterator[Problem]:
    for same in by_content.values():
        if len(same) > 1:
            first, *others = same
            names = ", ".join(f"{record.image.name} ({record.split})" for record in others[:3])
            names += f" and {len(others) - 3} more" if len(others) > 3 else ""
            across = any(record.split != first.split for record in others)
            kind = "in-two-splits" if across else "duplicate-image"
            cause = f"the same photograph ({first.split}) as {names}"
            yield Problem(str(first.image), cause, kind, len(others))


def _overlong(records: Sequence[Record]) -> Iterator[Problem]:
    for record in records:
        for caption in record.captions:
            # The length in characters bounds the number of words, which spares the slow split of nearly all captions.
            if len(caption) > LONGEST and (length := len(split_words(caption))) > LONGEST:
                cause = f"a caption of {length} words: {caption[:60]}..."
                yield Problem(str(record.image), cause, "overlong-caption")


def _coverage(by_split: dict[str, list[Record]], train: Counter[str], size: int) -> Coverage | None:
    split = "val" if by_split["val"] else "test"
    if not train or not by_split[split]:
        return None
    known = {word for word, _ in train.most_common(size)}
    looked_at = _count_words(by_split[split])
    unknown = Counter({word: count for word, count in looked_at.items() if word not in known})
    examples = tuple(word for word, _ in unknown.most_common(5))
    return Coverage(split, size, len(train), looked_at.total(), unknown.total(), examples)


def _count_words(records: Sequence[Record]) -> Counter[str]:
    return Counter(word for record in records for caption in record.captions for word in split_words(caption))
