"""Data sets packed in files, Parquet or webdataset's tars: where they are, and what splits they are."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from captionlens.datasets.gathering import folders_below
from captionlens.datasets.records import split_name
from captionlens.errors import DatasetError, OptionError

SUFFIXES = (".tar", ".parquet")
STATE = ".unpacked"  # in a folder that is unpacked into: how far that is
TABLE = "captions.jsonl"

_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Sample:
    """A photograph with its captions, out of a packed file."""

    at: str  # where it stands in the file, for messages
    name: str  # of the photograph's file, with folders, or ""
    image: bytes
    captions: tuple[object, ...]
    split: object  # as the entry states it, or None
    id: object  # likewise


def packed_files(source: Path) -> list[Path]:
    """The packed files of a folder and those below it, in the order of their paths; a file is its own only one.

    Beside tars, Parquet has no photographs but what was known of them; it is left alone.
    """
    if source.is_file():
        return [source] if source.suffix.lower() in SUFFIXES else []
    files = [file for folder in folders_below(str(source)) for file in Path(folder).iterdir() if file.is_file()]
    for suffix in SUFFIXES:
        some = sorted(file for file in files if file.suffix.lower() == suffix and not file.name.startswith("."))
        if some:
            return some
    return []


def refuse_packed(path: Path) -> None:
    """Refuse a data set whose photographs are packed in files.

    Raises:
        DatasetError: it is one; the message says what to do.
    """
    files = packed_files(path)
    if files:
        which = files[0].name + (f" and {len(files) - 1:,} more" if len(files) > 1 else "")
        command = f"captionlens data unpack {shlex.quote(str(path))} DIR"
        raise DatasetError(path, f"its photographs are packed ({which}): unpack them by {command}, then use DIR")


def refuse_unfinished(folder: Path) -> None:
    """Refuse a folder into which a data set is not unpacked to its end.

    Raises:
        DatasetError: it is one.
    """
    if (folder / STATE).is_dir() and not (folder / TABLE).is_file():
        raise DatasetError(folder, "is not unpacked to its end: run captionlens data unpack SOURCE DIR again")


def split_of_file(file: Path, source: Path) -> str | None:
    """Split of a packed file: a word of its name, as in `train-00000-of-00002.parquet`, or the name of a folder of it.

    Args:
        file: the packed file.
        source: the folder that is unpacked, whose name counts, too, or the file itself.
    """
    words = re.split(r"[^A-Za-z]+", file.stem)
    folder = file.parent if source.is_file() else source
    inside = file.parent.relative_to(folder).parts
    for name in (*words, *reversed(inside), folder.name):
        try:
            return split_name(name)
        except OptionError:
            continue
    return None


def check_pointer(file: Path) -> None:
    """Refuse a packed file that is empty, or that only says where its content is.

    Raises:
        DatasetError: it is one.
    """
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(_POINTER))
    except OSError as error:
        raise DatasetError(file, f"cannot be read: {error.strerror or error}") from error
    if not begin:
        raise DatasetError(file, "is empty")
    if begin == _POINTER:
        raise DatasetError(file, "is a pointer of Git LFS, not the file itself: fetch it with git lfs pull")
