"""Caption data sets: readers of the common layouts, downloads, checks, splits and phrase boxes."""

import os
from pathlib import Path

from captionlens.datasets import beside, coco, flickr, karpathy, tables
from captionlens.datasets.gathering import Gathering
from captionlens.datasets.layouts import COCO_YEARS, LAYOUTS, known_layout, recognise
from captionlens.datasets.records import SPLITS, Dataset, Problem, Record, count_captions, split_name
from captionlens.datasets.splits import fill_splits, keep_captions
from captionlens.datasets.table_form import TableForm
from captionlens.errors import DatasetError

__all__ = [
    "LAYOUTS",
    "SPLITS",
    "Dataset",
    "Problem",
    "Record",
    "TableForm",
    "count_captions",
    "read_dataset",
    "split_name",
]


def read_dataset(
    path: str | Path,
    *,
    layout: str | None = None,
    max_captions: int | None = None,
    seed: int = 1,
    table: TableForm | None = None,
) -> Dataset:
    """Read the captions of a data set and find their photographs; no photograph is opened.

    Official splits are kept. Photographs without a split are split at random by photograph, never by caption: the
    TensorFlow tutorial splits by caption, which puts one photograph on both sides. Where a data set has train but
    no val, part of train becomes val. `Dataset.notes` lists these decisions.

    Unusable entries (absent photographs, empty captions, malformed lines) are left out, and counted in
    `Dataset.problems`.

    Args:
        path: a folder, or the one file with the captions (`captions_*.json`, `dataset_*.json`, a table).
        layout: one of `LAYOUTS`, or "coco2014" or "coco2017" where a folder holds both; by default it is
            recognised by the files in the folder.
        max_captions: keep so many captions of the train split, sampled with `seed` (`keep_captions`).
        seed: for splits and for `max_captions`.
        table: what a table does not say of itself: delimiter, names of columns, encoding. The encoding is that of the
            other layouts' captions, too.

    Returns:
        The records in the order of the captions file, with absolute paths.

    Raises:
        DatasetError: no known layout, a missing or malformed file, or no usable photograph.
        OptionError: an unknown layout, or a `max_captions` below 1.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow links)
    notes = []
    if layout is None:
        fitting = recognise(place, None if table is None else table.encoding)
        layout = fitting[0]
        if len(fitting) > 1:
            others = " and ".join(fitting[1:])
            notes.append(f"read as {layout}; {others} would fit too (--layout decides)")
    else:
        known_layout(layout)
        if not place.exists():
            raise DatasetError(place, "no such file or folder")
    root = _root(place, layout)
    gathering = Gathering(root)
    _read(place, root, layout, gathering, table)
    if layout != "texts":  # that tells of those without a text
        gathering.note_unnamed(below=layout in ("imagefolder", "table"))
    drafts = gathering.drafts()
    notes += gathering.notes
    notes += fill_splits(drafts, seed)
    records = tuple(
        Record(draft.image, tuple(draft.captions), draft.split or "train", draft.source_id) for draft in drafts
    )
    if max_captions is not None:
        there = count_captions(record for record in records if record.split == "train")
        records = keep_captions(records, max_captions, seed)
        notes.append(f"{min(there, max_captions):,} of {there:,} train captions kept (seed {seed})")
    name = place.stem if place.is_file() else place.name
    return Dataset(name, root, layout, records, gathering.problems(), tuple(notes))


def _root(place: Path, layout: str) -> Path:
    """The folder that contains all photographs; names that lead out of it are refused."""
    if place.is_dir():
        return place
    if place.parent.name in ("annotations", "Flickr8k_text") and layout != "table":
        return place.parent.parent
    return place.parent


def _read(place: Path, root: Path, layout: str, gathering: Gathering, form: TableForm | None) -> None:
    encoding = None if form is None else form.encoding
    file = place if place.is_file() else None
    if layout in ("coco", *COCO_YEARS):
        if file is not None:
            coco.read_coco_file(root, file, gathering, encoding)
        else:
            coco.read_coco(root, gathering, COCO_YEARS.get(layout), encoding)
    elif layout == "karpathy":
        karpathy.read_karpathy_file(root, file or karpathy.annotation_file(root), gathering, encoding)
    elif layout == "flickr8k":
        flickr.read_flickr8k(root, gathering, file, encoding)
    elif layout == "flickr30k":
        flickr.read_flickr30k(root, gathering, file, encoding)
    elif layout == "imagefolder":
        tables.read_split_tables(root, gathering, form)
    elif layout == "texts":
        beside.read_texts(root, gathering, encoding)
    else:
        table = file or tables.table_in(root)
        if table is None:
            raise DatasetError(root, "want one .csv, .tsv, .jsonl or .json, or one called captions or metadata")
        tables.read_table(root, table, gathering, form)
