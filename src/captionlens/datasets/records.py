"""The one record type that every reader yields and everything above uses."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from captionlens.errors import OptionError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One photograph with its captions."""

    image: Path
    captions: tuple[str, ...]
    split: str  # one of SPLITS
    source_id: str  # the data set's own name for the photograph: COCO's image id, Flickr's file stem


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a data set that was left out, and why."""

    where: str  # file, or file and line
    cause: str
    kind: str = "other"  # a stable slug: "absent-image", "empty-caption", "malformed", ...
    count: int = 1  # photographs, captions or lines it stands for, where many are told in one


@dataclass(frozen=True, slots=True)
class Dataset:
    """Records as read, in a fixed order, and what had to be left out."""

    name: str
    root: Path
    layout: str
    records: tuple[Record, ...]
    problems: tuple[Problem, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())  # decisions of the reader worth knowing; nothing was lost

    def split(self, name: str) -> tuple[Record, ...]:
        """The records of one split.

        Raises:
            OptionError: the split's name is not known, or the data set has no photograph in it.
        """
        name = split_name(name)
        chosen = tuple(record for record in self.records if record.split == name)
        if not chosen:
            there = ", ".join(f"{s} ({n})" for s, n in self.split_sizes().items() if n) or "none"
            raise OptionError(f"data set {self.root} has no split {name!r}; it has: {there}")
        return chosen

    def split_sizes(self) -> dict[str, int]:
        """Photographs in each split."""
        return {name: sum(record.split == name for record in self.records) for name in SPLITS}


def split_name(name: str) -> str:
    """`name` as one of SPLITS; the names other collections use for them are understood.

    Raises:
        OptionError: the name means no split.
    """
    canonical = {"training": "train", "restval": "train", "dev": "val", "valid": "val", "validation": "val"}
    lowered = name.strip().lower()
    lowered = canonical.get(lowered, lowered)
    if lowered not in SPLITS:
        raise OptionError(f"unknown split {name!r}: use train, val (or dev) or test")
    return lowered


def count_captions(records: Iterable[Record]) -> int:
    """Captions in all of `records`."""
    return sum(len(record.captions) for record in records)
