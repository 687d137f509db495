"""Recognition of a data set's layout by the files in its folder."""

from pathlib import Path

from captionlens.datasets import beside, coco, flickr, karpathy, packed, tables
from captionlens.datasets.reading import read_json
from captionlens.errors import DatasetError, OptionError

# The name of each layout and its marks; where several fit, the first is taken.
LAYOUTS = {
    "karpathy": "dataset_*.json beside its photographs",
    "coco": "annotations/captions_*.json and train2014/, val2017/ ...",
    "flickr8k": "Flickr8k_text/Flickr8k.token.txt or captions.txt, and Flicker8k_Dataset/ or Images/",
    "flickr30k": "results_20130124.token or results.csv, and flickr30k-images/",
    "imagefolder": "train/metadata.jsonl, val/metadata.csv or the like, and photographs beside them",
    "table": "one .csv, .tsv, .jsonl, or .json with a list, with the columns image and caption",
    "texts": "photographs with text files of the same names beside them, 1.jpg and 1.txt",
}
COCO_YEARS = {"coco2014": "2014", "coco2017": "2017"}  # named by the user, where a folder holds both


def known_layout(name: str) -> str:
    """Check the name of a layout and return it.

    Raises:
        OptionError: the name is unknown.
    """
    if name not in LAYOUTS and name not in COCO_YEARS:
        raise OptionError(f"unknown layout {name!r}: use one of {', '.join([*LAYOUTS, *COCO_YEARS])}")
    return name


def recognise(path: Path, encoding: str | None = None) -> tuple[str, ...]:
    """Find the layouts that fit a folder or file, the preferred one first.

    Args:
        path: of the data set.
        encoding: of a captions file, where it is not UTF-8.

    Raises:
        DatasetError: the path does not exist, or no layout fits; the message lists the marks searched for.
    """
    if path.is_file():
        return (_recognise_file(path, encoding),)
    if not path.is_dir():
        raise DatasetError(path, "no such file or folder, and not the name of a known data set")
    packed.refuse_unfinished(path)
    tests = {
        "karpathy": bool(karpathy.annotation_files(path)),
        "coco": bool(coco.annotation_files(path)),
        "flickr8k": flickr.captions_file(path, flickr.FLICKR8K_TOKENS) is not None,
        "flickr30k": flickr.captions_file(path, flickr.FLICKR30K_TOKENS) is not None,
        "table": tables.table_in(path) is not None,
    }
    if not any(tests.values()):
        tests["imagefolder"] = bool(tables.split_tables(path))
    if not any(tests.values()):
        tests["texts"] = beside.has_texts(path)
    fitting = tuple(name for name, fits in tests.items() if fits)
    if "flickr30k" in fitting and "table" in fitting and not (path / "results_20130124.token").is_file():
        # A results.csv is Flickr30k's only with bars between its columns.
        wrong = "table" if _has_bars(path / "results.csv") else "flickr30k"
        fitting = tuple(name for name in fitting if name != wrong)
    if not fitting:
        packed.refuse_packed(path)
        looked_for = "; ".join(f"{name}: {mark}" for name, mark in LAYOUTS.items())
        raise DatasetError(path, f"no known layout. Looked for {looked_for}")
    return fitting


def _recognise_file(path: Path, encoding: str | None) -> str:
    suffix = path.suffix.lower()
    if suffix == ".json":
        if path.name.startswith("captions_"):
            return "coco"
        if path.name.startswith("dataset"):
            return "karpathy"
        try:
            content = read_json(path, encoding)
        except DatasetError:  # the layout's reader will tell
            content = None
        if isinstance(content, list):
            return "table"
        return "coco" if isinstance(content, dict) and "annotations" in content else "karpathy"
    if suffix in tables.SUFFIXES and not (path.name == "results.csv" and _has_bars(path)):
        return "table"
    if path.name in ("Flickr8k.token.txt", "captions.txt"):
        return "flickr8k"
    if path.name in flickr.FLICKR30K_TOKENS:
        return "flickr30k"
    packed.refuse_packed(path)
    looked_for = "captions_*.json, dataset_*.json, .csv, .tsv, .jsonl"
    raise DatasetError(path, f"not a file captions are read from (those are {looked_for})")


def _has_bars(path: Path) -> bool:
    with path.open("rb") as file:
        return b"|" in file.readline(1000)
