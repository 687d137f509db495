"""Readers of Flickr8k and Flickr30k, in their authors' form and in Kaggle's.

Hodosh, Young, Hockenmaier, "Framing Image Description as a Ranking Task" (JAIR 2013); Young, Lai, Hodosh,
Hockenmaier, "From image descriptions to visual denotations" (TACL 2014).
"""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from captionlens.datasets.gathering import Gathering
from captionlens.datasets.reading import is_damaged, read_lines
from captionlens.errors import DatasetError

FLICKR8K_TOKENS = ("Flickr8k_text/Flickr8k.token.txt", "Flickr8k.token.txt", "captions.txt")
FLICKR30K_TOKENS = ("results_20130124.token", "results.csv")
_FLICKR8K_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
_FLICKR30K_FOLDERS = ("flickr30k-images", "flickr30k_images", "images", "Images")

# Beginnings of rows, by which the forms are told apart: `1.jpg#0<TAB>`, `1.jpg| 0|`, `1.jpg,0,` and `1.jpg,`.
_TOKEN_ROW = re.compile(r"[^\t]+#\d+\t")
_BAR_ROW = re.compile(r"[^,|]+\|\s*\d+\s*\|")
_NUMBERED_ROW = re.compile(r"[^,]+,\s*\d+\s*,")
_COMMA_ROW = re.compile(r"[^,\"]+\.\w{3,5}\"?\s*,")
_LOOKED_AT = 20  # lines
_HEADERS = ("image", "image_name", "file_name", "filename")
_MOST_LINES = 10  # of a caption; a quote that is open for longer is none

# In this order, so that a photograph in two lists is kept out of training.
_OFFICIAL_LISTS = {
    "test": "Flickr_8k.testImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "train": "Flickr_8k.trainImages.txt",
}


def captions_file(root: Path, names: tuple[str, ...]) -> Path | None:
    """Path of the first of `names` that exists in `root`."""
    return next((root / name for name in names if (root / name).is_file()), None)


def read_flickr8k(root: Path, gathering: Gathering, file: Path | None = None, encoding: str | None = None) -> None:
    """Read Flickr8k: its token file (or Kaggle's `captions.txt`), and the official lists of the splits, if any.

    Photographs in none of the lists (91 of the 8,091) are left out; without any list the splits are left open.

    Raises:
        DatasetError: no captions file.
    """
    file = file or captions_file(root, FLICKR8K_TOKENS)
    if file is None:
        raise DatasetError(root, f"want one of {', '.join(FLICKR8K_TOKENS)}")
    splits = _official_splits(file.parent, gathering)
    unlisted = _gather(file, encoding, _folders(root, _FLICKR8K_FOLDERS), gathering, splits)
    if unlisted:
        gathering.notes.append(f"{unlisted:,} photographs are in none of the official lists and were left out")
    for name in splits:
        if not gathering.knows(name):
            gathering.no_caption(file, name)


def read_flickr30k(root: Path, gathering: Gathering, file: Path | None = None, encoding: str | None = None) -> None:
    """Read Flickr30k: `results_20130124.token` or `results.csv`. It has no splits of its own.

    Raises:
        DatasetError: no captions file.
    """
    file = file or captions_file(root, FLICKR30K_TOKENS)
    if file is None:
        raise DatasetError(root, f"want one of {', '.join(FLICKR30K_TOKENS)}")
    _gather(file, encoding, _folders(root, _FLICKR30K_FOLDERS), gathering, {})


def _gather(file: Path, encoding: str | None, folders: list[Path], gathering: Gathering, splits: dict[str, str]) -> int:
    """Add all rows to the gathering; return the number of photographs in no official list."""
    lines = list(read_lines(file, encoding))
    unlisted = set()
    rows = list(_rows(file, lines, gathering))
    gathering.refuse_mostly_malformed(file, len(rows))
    for number, name, text in rows:
        if splits and name not in splits:
            if name not in unlisted:
                gathering.set_aside(name, folders)
            unlisted.add(name)
            continue
        at = f":{number}"
        if not gathering.knows(name):
            source_id = PurePosixPath(name.replace("\\", "/")).stem
            split = splits.get(name)
            gathering.photograph(name, name, folders, file=file, at=at, source_id=source_id, split=split)
        gathering.caption(name, text, file=file, at=at)
    return len(unlisted)


Rows = Iterator[tuple[int, str, str]]  # line number, photograph, caption


def _rows(file: Path, lines: list[tuple[int, str]], gathering: Gathering) -> Rows:
    """Rows in the form of the first lines, whatever the file is called; a header is left out."""
    if lines and re.split("[,|]", lines[0][1])[0].strip(' "').lower() in _HEADERS:
        lines = lines[1:]
    first = [line for _, line in lines[:_LOOKED_AT]]
    if any(map(_TOKEN_ROW.match, first)):
        return _token_rows(file, lines, gathering)
    if any(map(_BAR_ROW.match, first)):
        return _bar_rows(file, lines, gathering)
    return _comma_rows(file, _joined(lines), gathering, numbered=all(map(_NUMBERED_ROW.match, first)))


def _joined(lines: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield lines with commas; those of a quoted caption with line breaks are joined."""
    begun: list[tuple[int, str]] = []  # lines since a quote that is still open
    for number, line in lines:
        if begun and (_COMMA_ROW.match(line) or len(begun) == _MOST_LINES):
            yield from begun
            begun = []
        if line.count('"') % 2 == (0 if begun else 1):
            begun.append((number, line))
        elif begun:
            yield begun[0][0], " ".join([text for _, text in begun] + [line])
            begun = []
        else:
            yield number, line
    yield from begun


def _token_rows(file: Path, lines: list[tuple[int, str]], gathering: Gathering) -> Rows:
    """Rows of `NAME#k<TAB>caption`."""
    for number, line in lines:
        name, tab, text = line.partition("\t")
        name, hash_, _ = name.rpartition("#")
        if not tab or not hash_ or is_damaged(line):
            gathering.malformed(file, f":{number}", "want NAME#NUMBER, a tab, and the caption in UTF-8")
            continue
        # The original file of Flickr8k names one photograph "2258277193_586949ec62.jpg.1".
        yield number, name.removesuffix(".1"), text


def _comma_rows(file: Path, lines: Iterable[tuple[int, str]], gathering: Gathering, *, numbered: bool) -> Rows:
    """Rows of Kaggle's `image,caption`, or `image_name,comment_number,comment`, with quoted captions."""
    for number, line in lines:
        name, comma, text = line.partition(",")
        if numbered:
            _, comma, text = text.partition(",")
        if not comma or is_damaged(line):
            wanted = "NAME, NUMBER" if numbered else "NAME"
            gathering.malformed(file, f":{number}", f"want {wanted}, a comma, and the caption in UTF-8")
            continue
        if text.startswith('"'):
            cells = next(csv.reader([text]))
            text = cells[0] if len(cells) == 1 else text
        yield number, name.strip(' "'), text


def _bar_rows(file: Path, lines: list[tuple[int, str]], gathering: Gathering) -> Rows:
    """Rows of Kaggle's `image_name| comment_number| comment`.

    One line of the file on Kaggle lacks its last bar; it is reported as malformed.
    """
    for number, line in lines:
        cells = [cell.strip() for cell in line.split("|", 2)]
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
