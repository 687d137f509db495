"""File access of the data set readers: JSON, lines of text, and the search for photographs in folders."""

import codecs
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from captionlens.errors import DatasetError

# So many lines of a file may be damaged, by number or share; with more, the file is of another encoding.
_DAMAGED_LINES, _DAMAGED_SHARE = 3, 0.01
_REMEDY = "save it as UTF-8, or if it is a table, name the encoding, as with --encoding"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DatasetError: the file is missing, not UTF-8, or malformed JSON; the message gives line and column.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DatasetError(path, f"broken JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(path, f"not UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(path, f"unusable JSON: {error}") from error
    except OSError as error:
        raise DatasetError(path, f"cannot be read: {error.strerror or error}") from error


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a text file: UTF-8 with or without a byte order mark, or UTF-16 with one, or in a named encoding.

    Bytes that are not UTF-8 become surrogates, see `is_damaged`, so that one damaged line does not cost the others.
    Line ends stay as they are.

    Raises:
        DatasetError: the file cannot be read, is not of the encoding, or seems to be of another than UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(path, f"cannot be read: {error.strerror or error}") from error
    if encoding is not None:
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except UnicodeError as error:
            raise DatasetError(path, f"is not {encoding}: {error}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    text = content.decode("utf-8-sig", errors="surrogateescape")
    _check_utf8(path, content, text)
    return text


def _check_utf8(path: Path, content: bytes, text: str) -> None:
    """Refuse text of another encoding: to leave out every line with an umlaut would be to lose a part of the data."""
    if content.count(0) > len(content) // 4:
        order = "le" if content[1::2].count(0) > content[::2].count(0) else "be"
        raise DatasetError(path, f"seems to be UTF-16: {_REMEDY} utf-16-{order}")
    if not is_damaged(text):
        return
    lines = text.split("\n")
    damaged = sum(map(is_damaged, lines))
    if damaged > max(_DAMAGED_LINES, _DAMAGED_SHARE * len(lines)):
        raise DatasetError(path, f"{damaged:,} of {len(lines):,} lines are not UTF-8: {_REMEDY} cp1252")


def is_damaged(text: str) -> bool:
    """Whether `text` contains bytes that were not UTF-8."""
    return any("\udc80" <= character <= "\udcff" for character in text) if not text.isascii() else False


def read_lines(path: Path, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of every line that is not blank, without its line end."""
    for number, line in enumerate(read_text(path, encoding).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


class OutsideRootError(ValueError):
    """A photograph's name leads out of the data set's folder."""


class Folders:
    """Search for photographs in folders. Each folder is listed once, instead of a system call per photograph."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.join(os.path.abspath(root), "")  # noqa: PTH100, PTH118 (a string prefix)
        self._listed: dict[str, dict[str, str]] = {}  # names in a folder by themselves, and by their composed form
        self._spelled: dict[str, str] = {}  # folders as they are spelled on disk
        self.moved = 0  # absolute names that were found by their last parts

    def find(self, name: str, folders: Sequence[Path], *, absolute: bool = False) -> Path | None:
        """Path of `name`, which may contain folders, in the first of `folders` that has it; None if none has.

        Args:
            absolute: whether an absolute name is allowed.

        Raises:
            OutsideRootError: the name leads out of the data set's folder.
        """
        if "\0" in name or not name.strip():
            return None
        if os.path.isabs(name) or PureWindowsPath(name).drive:  # noqa: PTH117
            if not absolute:
                raise OutsideRootError(name)
            there = self._there(os.path.normpath(name)) if os.path.isabs(name) else None  # noqa: PTH117
            return Path(there) if there is not None else self._moved(name, folders)
        for spelling in (name, name.replace("\\", "/")) if "\\" in name else (name,):
            for folder in folders:
                path = os.path.normpath(os.path.join(folder, spelling))  # noqa: PTH118 (called 120,000 times)
                if not path.startswith(self._root):
                    raise OutsideRootError(name)
                there = self._there(path)
                if there is not None:
                    return Path(there)
        return None

    def files(self, folder: Path) -> list[Path]:
        """Paths of everything in a folder."""
        spelled, names = self._list(str(folder))
        return [Path(spelled, name) for name in names]

    def _moved(self, name: str, folders: Sequence[Path]) -> Path | None:
        """Find a photograph whose absolute name is of another place or computer, by the longest end of it."""
        parts = PureWindowsPath(name).parts[1:]
        for begin in range(len(parts)):
            for folder in folders:
                there = self._there(os.path.normpath(os.path.join(folder, *parts[begin:])))  # noqa: PTH118
                if there is not None and there.startswith(self._root):
                    self.moved += 1
                    return Path(there)
        return None

    def _there(self, path: str) -> str | None:
        """The path as the folder spells it, which may compose its letters otherwise; None if it is not there."""
        folder, name = os.path.split(path)
        names = self._listed.get(folder)
        if names is None:
            spelled, found = self._list(folder)
            names = {unicodedata.normalize("NFC", own): own for own in found if not own.isascii()}
            names |= {own: own for own in found}
            self._spelled[folder] = spelled
            self._listed[folder] = names
        own = names.get(name)
        if own is None and not name.isascii():
            own = names.get(unicodedata.normalize("NFC", name))
        return None if own is None else os.path.join(self._spelled[folder], own)  # noqa: PTH118

    def _list(self, folder: str) -> tuple[str, list[str]]:
        """The path of a folder as it is spelled on disk, and the names in it."""
        try:
            return folder, os.listdir(folder)  # noqa: PTH208
        except OSError:
            inside = not folder.isascii() and folder.startswith(self._root) and folder + os.sep != self._root
            spelled = self._there(folder) if inside else None
            return (folder, []) if spelled in (None, folder) else self._list(str(spelled))
