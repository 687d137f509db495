"""File access of the data set readers: JSON, lines of text, and the search for photographs in folders."""

import codecs
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from captionlens.errors import DatasetError


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


def read_text(path: Path) -> str:
    """Read a text file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Bytes that are not UTF-8 become surrogates, see `is_damaged`, so that one damaged line does not cost the others.
    Line ends stay as they are.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(path, f"cannot be read: {error.strerror or error}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    return content.decode("utf-8-sig", errors="surrogateescape")


def is_damaged(text: str) -> bool:
    """Whether `text` contains bytes that were not UTF-8."""
    return any("\udc80" <= character <= "\udcff" for character in text) if not text.isascii() else False


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of every line that is not blank, without its line end."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


class OutsideRootError(ValueError):
    """A photograph's name leads out of the data set's folder."""


class Folders:
    """Search for photographs in folders. Each folder is listed once, instead of a system call per photograph."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.join(os.path.abspath(root), "")  # noqa: PTH100, PTH118 (a string prefix)
        self._listed: dict[str, frozenset[str]] = {}

    def find(self, name: str, folders: Sequence[Path], *, absolute: bool = False) -> Path | None:
        """Path of `name`, which may contain folders, in the first of `folders` that has it; None if none has.

        Args:
            absolute: whether an absolute name is allowed.

        Raises:
            OutsideRootError: the name leads out of the data set's folder.
        """
        if "\0" in name or not name.strip():
            return None
        if os.path.isabs(name):  # noqa: PTH117
            if not absolute:
                raise OutsideRootError(name)
            return Path(name) if self._has(os.path.normpath(name)) else None
        for spelling in (name, name.replace("\\", "/")) if "\\" in name else (name,):
            for folder in folders:
                path = os.path.normpath(os.path.join(folder, spelling))  # noqa: PTH118 (called 120,000 times)
                if not path.startswith(self._root):
                    raise OutsideRootError(name)
                if self._has(path):
                    return Path(path)
        return None

    def _has(self, path: str) -> bool:
        folder, name = os.path.split(path)
        names = self._listed.get(folder)
        if names is None:
            try:
                names = frozenset(os.listdir(folder))  # noqa: PTH208
            except OSError:
                names = frozenset()
            self._listed[folder] = names
        return name in names
