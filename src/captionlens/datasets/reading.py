"""File access of the data set readers: JSON, lines of text, and the search for photographs in folders."""

import codecs
import json
import os
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from captionlens.errors import DatasetError

# So many lines of a file, or texts of a folder, may be damaged, by number or share; with more, the encoding is another.
_DAMAGED, _DAMAGED_SHARE = 3, 0.01
_NULLS = 0.05  # share of zero bytes from which a text is UTF-16
_BYTE_ORDER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_REMEDY = "save as UTF-8, or name the encoding, as with --encoding"


def read_json(path: Path, encoding: str | None = None) -> Any:
    """Read a JSON file: UTF-8 with or without a byte order mark, or UTF-16 with one, or in a named encoding.

    Raises:
        DatasetError: the file is missing, of another encoding, cut off, or malformed; the message gives the place.
    """
    content = read_content(path)
    text = ""
    try:
        if encoding is None:
            encoding = "utf-16" if content.startswith(_BYTE_ORDER_MARKS) else "utf-8-sig"
        text = content.decode(encoding).removeprefix("\ufeff")
        return json.loads(text)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        cause = f"{error.msg}; the file may be cut off" if ended else error.msg
        raise DatasetError(path, f"broken JSON at line {error.lineno}, column {error.colno}: {cause}") from error
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else encoding
        remedy = f"{_REMEDY} {likely_encoding(content)}"
        raise DatasetError(path, f"not {name}: {error.reason} at byte {error.start}: {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(path, f"unusable JSON: {error}") from error


def read_content(path: Path) -> bytes:
    """Read the bytes of a file.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(path, f"cannot be read: {error.strerror or error}") from error


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a text file: UTF-8 with or without a byte order mark, or UTF-16 with one, or in a named encoding.

    Bytes that are not UTF-8 become surrogates, see `is_damaged`, so that one damaged line does not cost the others.
    Line ends stay as they are.

    Raises:
        DatasetError: the file cannot be read, is not of the encoding, or seems to be of another than UTF-8.
    """
    content = read_content(path)
    text = decode(path, content, encoding)
    likely = likely_encoding(content)
    if encoding is None and likely != "cp1252" and not content.startswith(_BYTE_ORDER_MARKS):
        raise DatasetError(path, f"seems to be UTF-16: {_REMEDY} {likely}")
    if encoding is None and is_damaged(text):
        lines = text.split("\n")
        refuse_other_encoding(path, sum(map(is_damaged, lines)), len(lines), "lines", likely)
    return text


def decode(path: Path, content: bytes, encoding: str | None = None) -> str:
    """Decode the content of a text file as `read_text` does, however much of it is damaged.

    Raises:
        DatasetError: it is not of the named encoding.
    """
    if encoding is not None:
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except UnicodeError as error:
            raise DatasetError(path, f"is not {encoding}: {error}") from error
    if content.startswith(_BYTE_ORDER_MARKS):
        return content.decode("utf-16", errors="replace")
    return content.decode("utf-8-sig", errors="surrogateescape")


def likely_encoding(content: bytes) -> str:
    """A guess at the encoding of a text that is not UTF-8."""
    if content.count(0) <= _NULLS * len(content):
        return "cp1252"
    return "utf-16-le" if content[1::2].count(0) > content[::2].count(0) else "utf-16-be"


def refuse_other_encoding(
    path: Path, damaged: int, number: int, what: str, likely: str, encoding: str = "UTF-8"
) -> None:
    """Refuse a file or folder where many lines or texts are not of an encoding.

    To leave out every line with an umlaut would be to lose a part of the data.

    Raises:
        DatasetError: more than a few are damaged.
    """
    if damaged > max(_DAMAGED, _DAMAGED_SHARE * number):
        raise DatasetError(path, f"{damaged:,} of {number:,} {what} are not {encoding}: {_REMEDY} {likely}")


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
            absolute: whether an absolute name may lead out of the data set's folder; one of another place is found in
                it by its last parts.

        Raises:
            OutsideRootError: the name leads out of the data set's folder.
        """
        if "\0" in name or not name.strip():
            return None
        if os.path.isabs(name) or PureWindowsPath(name).drive:  # noqa: PTH117
            there = self._there(os.path.normpath(name)) if os.path.isabs(name) else None  # noqa: PTH117
            if there is not None and (absolute or there.startswith(self._root)):
                return Path(there)
            moved = self._moved(name, folders)
            if moved is None and there is not None:
                raise OutsideRootError(name)
            return moved
        for spelling in (name, name.replace("\\", "/")) if "\\" in name else (name,):
            for folder in folders:
                path = os.path.normpath(os.path.join(folder, spelling))  # noqa: PTH118 (called 120,000 times)
                if not path.startswith(self._root):
                    raise OutsideRootError(name)
                there = self._there(path)
                if there is not None:
                    return Path(there)
        return None

    def names(self, folder: str) -> Collection[str]:
        """Names of everything in a folder, as they are spelled on disk."""
        return set(self._names(folder).values())

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
        names = self._names(folder)
        own = names.get(name)
        if own is None and not name.isascii():
            own = names.get(unicodedata.normalize("NFC", name))
        return None if own is None else os.path.join(self._spelled[folder], own)  # noqa: PTH118

    def _names(self, folder: str) -> dict[str, str]:
        """The names in a folder, by themselves and by their composed form; the folder is listed once."""
        names = self._listed.get(folder)
        if names is None:
            spelled, found = self._list(folder)
            names = {unicodedata.normalize("NFC", own): own for own in found if not own.isascii()}
            names |= {own: own for own in found}
            self._spelled[folder] = spelled
            self._listed[folder] = names
        return names

    def _list(self, folder: str) -> tuple[str, list[str]]:
        """The path of a folder as it is spelled on disk, and the names in it."""
        try:
            return folder, os.listdir(folder)  # noqa: PTH208
        except OSError:
            inside = not folder.isascii() and folder.startswith(self._root) and folder + os.sep != self._root
            spelled = self._there(folder) if inside else None
            return (folder, []) if spelled in (None, folder) else self._list(str(spelled))
