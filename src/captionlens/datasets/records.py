"""Data set types: the record of a photograph with its captions, and the data set of records."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captionlens.errors import OptionError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """One photograph with its captions."""

    image: Path
    captions: tuple[str, ...]
    split: str  # one of SPLITS
    source_id: str  # the photograph's id in the data set: COCO's image id, Flickr's file stem


@dataclass(frozen=True, slots=True)
class Problem:
    """An entry of a data set that was left out, with the cause."""

    where: str  # file, or file and line
    cause: str
    kind: str = "other"  # a stable slug: "absent-image", "empty-caption", "malformed", ...
    count: int = 1  # number of photographs, captions or lines that it combines

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"kind": self.kind, "where": self.where, "cause": self.cause, "count": self.count}


@dataclass(frozen=True, slots=True)
class Dataset:
    """Records in a fixed order, and the problems of the entries left out."""

    name: str
    root: Path
    layout: str
    records: tuple[Record, ...]
    problems: tuple[Problem, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())  # decisions of the reader that the user should know; nothing was lost

    def split(self, name: str) -> tuple[Record, ...]:
        """The records of one split.

        Raises:
            OptionError: the split is unknown, or the data set has no photograph in it.
        """
        name = split_name(name)
        chosen = tuple(record for record in self.records if record.split == name)
        if not chosen:
            there = ", ".join(f"{s} ({n})" for s, n in self.split_sizes().items() if n) or "none"
            raise OptionError(f"data set {self.root} has no split {name!r}; it has: {there}")
        return chosen

    def split_sizes(self) -> dict[str, int]:
        """Number of photographs in each split."""
        return {name: sum(record.split == name for record in self.records) for name in SPLITS}


def split_name(name: str) -> str:
    """Normalise the name of a split to one of SPLITS; the names in other collections are accepted.

    Raises:
        OptionError: the name is unknown.
    """
    canonical = {"training": "train", "restval": "train", "dev": "val", "valid": "val", "validation": "val"}
    lowered = name.strip().lower()
    lowered = canonical.get(lowered, lowered)
    if lowered not in SPLITS:
        raise OptionError(f"unknown split {name!r}: use train, val (or dev) or test")
    return lowered


def count_captions(records: Iterable[Record]) -> int:
    """Number of captions of all records."""
    return sum(len(record.captions) for record in records)
