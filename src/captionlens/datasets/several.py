"""Several data sets at once: read with one seed and one limit of captions, with names and photographs kept apart."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from captionlens.datasets import TableForm, read_dataset
from captionlens.datasets.records import Dataset, Record, count_captions, split_name
from captionlens.datasets.splits import keep_captions
from captionlens.errors import OptionError


def read_datasets(
    paths: Sequence[str | Path],
    *,
    layouts: Sequence[str] = (),
    max_captions: int | None = None,
    seed: int = 1,
    table: TableForm | None = None,
) -> tuple[Dataset, ...]:
    """Read several data sets, each with its own splits.

    Data sets of one name get numbers: `captions`, `captions-2`. Where photographs of two sets have the same id and the
    same size in bytes, but other contents, the later one's id gets its set's name in front.

    Args:
        paths: of the data sets, see `read_dataset`.
        layouts: one for all of them, or one for each; none: they are recognised.
        max_captions: keep so many captions of all train splits together (`keep_captions`).
        seed: for splits and for `max_captions`.
        table: form of those that are tables.

    Raises:
        DatasetError: a data set cannot be read.
        OptionError: the numbers of layouts and data sets differ, or a data set is named twice.
    """
    if len(layouts) not in (0, 1, len(paths)):
        raise OptionError(
            f"--layout is given once for all data sets, or once for each: {len(paths)}, not {len(layouts)}"
        )
    places = [Path(path).resolve() for path in paths]
    for place, count in Counter(places).items():
        if count > 1:
            raise OptionError(f"data set {place} is named {count} times: name each once, and weigh it with --weights")
    each: Sequence[str | None] = layouts or [None]
    if len(each) == 1:
        each = [*each] * len(paths)
    # A single set is limited by its reader, which notes it.
    limit = max_captions if len(paths) == 1 else None
    read = [
        read_dataset(path, layout=layout, max_captions=limit, seed=seed, table=table)
        for path, layout in zip(paths, each, strict=True)
    ]
    if max_captions is not None and len(read) > 1:
        read = _limited(read, max_captions, seed)
    return _apart(_named_apart(read))


def split_of(datasets: Sequence[Dataset], name: str) -> list[tuple[Record, ...]]:
    """The records of one split of each data set; empty for those that lack it.

    Raises:
        OptionError: the split is unknown, or none of the data sets has a photograph in it.
    """
    if len(datasets) == 1:
        return [datasets[0].split(name)]
    known = split_name(name)
    chosen = [tuple(record for record in dataset.records if record.split == known) for dataset in datasets]
    if not any(chosen):
        raise OptionError(f"none of the data sets {titles(datasets)} has a split {known!r}")
    return chosen


def titles(datasets: Sequence[Dataset]) -> str:
    """The names of data sets, for messages and cards: "a, b and c"."""
    *others, last = (dataset.name for dataset in datasets)
    return f"{', '.join(others)} and {last}" if others else last


def _limited(datasets: Sequence[Dataset], number: int, seed: int) -> list[Dataset]:
    """Keep a random subset of the train captions of all data sets together."""
    everything = [record for dataset in datasets for record in dataset.records]
    there = count_captions(record for record in everything if record.split == "train")
    # Photographs are told apart by their paths: ids may be the same in two data sets.
    kept = {(record.image, record.source_id): record for record in keep_captions(everything, number, seed)}
    limited = []
    for dataset in datasets:
        found = (kept.get((record.image, record.source_id)) for record in dataset.records)
        records = tuple(record for record in found if record is not None)
        train = count_captions(record for record in records if record.split == "train")
        note = f"{train:,} train captions kept, of {min(number, there):,} of all data sets (seed {seed})"
        limited.append(replace(dataset, records=records, notes=(*dataset.notes, note)))
    return limited


def _named_apart(datasets: Sequence[Dataset]) -> list[Dataset]:
    taken: set[str] = set()
    named = []
    for dataset in datasets:
        name, number = dataset.name, 1
        while name in taken:
            number += 1
            name = f"{dataset.name}-{number}"
        taken.add(name)
        named.append(replace(dataset, name=name))
    return named


def _apart(datasets: Sequence[Dataset]) -> tuple[Dataset, ...]:
    """Change the ids of photographs that the feature store would take for one of an earlier data set."""
    earlier: dict[tuple[str, int], Path] = {}
    apart = []
    for dataset in datasets:
        records = []
        own: dict[tuple[str, int], Path] = {}
        for record in dataset.records if len(datasets) > 1 else ():
            try:
                key = record.source_id, record.image.stat().st_size
            except OSError:  # reported where the photograph is read
                records.append(record)
                continue
            own[key] = record.image
            other = earlier.get(key)
            if other is not None and other != record.image and other.read_bytes() != record.image.read_bytes():
                records.append(replace(record, source_id=f"{dataset.name}/{record.source_id}"))
            else:
                records.append(record)
        earlier = {**own, **earlier}
        apart.append(replace(dataset, records=tuple(records)) if records else dataset)
    return tuple(apart)
