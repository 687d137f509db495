"""Readers of Flickr8k and Flickr30k, in their authors' form and in Kaggle's.

Hodosh, Young, Hockenmaier, "Framing Image Description as a Ranking Task" (JAIR 2013); Young, Lai, Hodosh,
Hockenmaier, "From image descriptions to visual denotations" (TACL 2014).
"""

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from captionlens.datasets.gathering import Gathering
from captionlens.datasets.reading import is_damaged, read_lines
from captionlens.errors import DatasetError

FLICKR8K_TOKENS = ("Flickr8k_text/Flickr8k.token.txt", "Flickr8k.token.txt", "captions.txt")
FLICKR30K_TOKENS = ("results_20130124.token", "results.csv")
_FLICKR8K_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
_FLICKR30K_FOLDERS = ("flickr30k-images", "flickr30k_images", "images", "Images")

# In this order, so that a photograph in two lists is kept out of training.
_OFFICIAL_LISTS = {
    "test": "Flickr_8k.testImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "train": "Flickr_8k.trainImages.txt",
}


def captions_file(root: Path, names: tuple[str, ...]) -> Path | None:
    """Path of the first of `names` that exists in `root`."""
    return next((root / name for name in names if (root / name).is_file()), None)


def read_flickr8k(root: Path, gathering: Gathering, file: Path | None = None) -> None:
    """Read Flickr8k: its token file (or Kaggle's `captions.txt`), and the official lists of the splits, if any.

    Photographs in none of the lists (91 of the 8,091) are left out; without any list the splits are left open.

    Raises:
        DatasetError: no captions file.
    """
    file = file or captions_file(root, FLICKR8K_TOKENS)
    if file is None:
        raise DatasetError(root, f"want one of {', '.join(FLICKR8K_TOKENS)}")
    splits = _official_splits(file.parent, gathering)
    folders = _folders(root, _FLICKR8K_FOLDERS)
    rows = _comma_rows(file, gathering) if file.name == "captions.txt" else _token_rows(file, gathering)
    unlisted = _gather(file, rows, folders, gathering, splits)
    if unlisted:
        gathering.notes.append(f"{unlisted:,} photographs are in none of the official lists and were left out")
    for name in splits:
        if not gathering.knows(name):
            gathering.no_caption(file, name)


def read_flickr30k(root: Path, gathering: Gathering, file: Path | None = None) -> None:
    """Read Flickr30k: `results_20130124.token` or `results.csv`. It has no splits of its own.

    Raises:
        DatasetError: no captions file.
    """
    file = file or captions_file(root, FLICKR30K_TOKENS)
    if file is None:
        raise DatasetError(root, f"want one of {', '.join(FLICKR30K_TOKENS)}")
    folders = _folders(root, _FLICKR30K_FOLDERS)
    rows = _bar_rows(file, gathering) if file.suffix == ".csv" else _token_rows(file, gathering)
    _gather(file, rows, folders, gathering, {})


def _gather(
    file: Path,
    rows: Iterator[tuple[int, str, str]],
    folders: list[Path],
    gathering: Gathering,
    splits: dict[str, str],
) -> int:
    """Add all rows to the gathering; return the number of photographs in no official list."""
    unlisted = set()
    for number, name, text in rows:
        if splits and name not in splits:
            unlisted.add(name)
            continue
        at = f":{number}"
        if not gathering.knows(name):
            source_id = PurePosixPath(name).stem
            split = splits.get(name)
            gathering.photograph(name, name, folders, file=file, at=at, source_id=source_id, split=split)
        gathering.caption(name, text, file=file, at=at)
    return len(unlisted)


def _token_rows(file: Path, gathering: Gathering) -> Iterator[tuple[int, str, str]]:
    """Yield line number, photograph and caption of `NAME#k<TAB>caption`."""
    for number, line in read_lines(file):
        name, tab, text = line.partition("\t")
        name, hash_, _ = name.rpartition("#")
        if not tab or not hash_ or is_damaged(line):
            gathering.malformed(file, f":{number}", "want NAME#NUMBER, a tab, and the caption in UTF-8")
            continue
        # The original file of Flickr8k names one photograph "2258277193_586949ec62.jpg.1".
        yield number, name.removesuffix(".1"), text


def _comma_rows(file: Path, gathering: Gathering) -> Iterator[tuple[int, str, str]]:
    """Yield the same of Kaggle's `image,caption` with a header line and quoted captions."""
    for number, line in read_lines(file):
        if number == 1 and line.replace(" ", "").lower() == "image,caption":
            continue
        name, comma, text = line.partition(",")
        if not comma or is_damaged(line):
            gathering.malformed(file, f":{number}", "want NAME, a comma, and the caption in UTF-8")
            continue
        if text.startswith('"'):
            cells = next(csv.reader([text]))
            text = cells[0] if len(cells) == 1 else text
        yield number, name.strip(), text


def _bar_rows(file: Path, gathering: Gathering) -> Iterator[tuple[int, str, str]]:
    """Yield the same of Kaggle's `image_name| comment_number| comment` with a header line.

    One line of the file on Kaggle lacks its last bar; it is reported as malformed.
    """
    for number, line in read_lines(file):
        cells = [cell.strip() for cell in line.split("|", 2)]
        if number == 1 and cells[0].lower() == "image_name":
            continue
        if len(cells) != 3 or is_damaged(line):
            gathering.malformed(file, f":{number}", "want NAME| NUMBER| and the caption in UTF-8")
            continue
        yield number, cells[0], cells[2]


def _official_splits(folder: Path, gathering: Gathering) -> dict[str, str]:
    splits: dict[str, str] = {}
    for split, list_name in _OFFICIAL_LISTS.items():
        file = folder / list_name
        if not file.is_file():
            continue
        for number, line in read_lines(file):
            name = line.strip()
            if splits.get(name, split) != split:
                gathering.contradiction(file, f":{number}", name, split, splits[name])
            splits.setdefault(name, split)
    return splits


def _folders(root: Path, names: tuple[str, ...]) -> list[Path]:
    found = [root / name for name in names if (root / name).is_dir()]
    # Kaggle's archives repeat a folder's name inside it.
    nested = [folder / folder.name for folder in found if (folder / folder.name).is_dir()]
    return [*found, *nested, root]
