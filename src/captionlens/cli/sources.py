"""Photographs named on a command line: files, folders, a list of files, an image on stdin."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from captionlens.errors import FileError
from captionlens.outputs.figures import is_figure
from captionlens.outputs.sinks import STDIN
from captionlens.runtime import EXTENSIONS, RAW_EXTENSIONS, raw
from captionlens.runtime.photograph import Photograph

# Folders in which programs keep thumbnails and rubbish: Synology, Linux, QNAP, Windows, macOS, Lightroom, our report.
OTHERS_FOLDERS = ("@eaDir", "lost+found", "#recycle", "$RECYCLE.BIN", "__MACOSX", "*.lrdata", "captionlens-thumbs-*")


@dataclass(slots=True)
class Found:
    """Photographs in the order of the command line, and what was not taken.

    Attributes:
        photographs: to caption.
        problems: errors of folders.
        left_out: numbers of files and folders that were left out, by the reason.
    """

    photographs: list[Photograph] = field(default_factory=list)
    problems: list[FileError] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def gather(
    paths: tuple[str, ...],
    filelist: Path | None,
    recursive: bool,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    may_be_empty: bool = False,
) -> Found:
    """Collect photographs.

    Hidden files and folders, and OTHERS_FOLDERS, are left out of folders; what is named itself never is.

    Args:
        paths: of photographs and folders; `-` is an image on stdin.
        filelist: a text file with one path per line.
        recursive: include sub-folders.
        include: patterns of paths in folders, relative to them, one of which must fit; none: all fit.
        exclude: patterns of paths to leave out.
        may_be_empty: whether a folder without photographs is none of the problems.

    Raises:
        FileError: the list cannot be read.
    """
    found = Found()
    for path in paths:
        if path == STDIN:
            found.photographs.append(Photograph(sys.stdin.buffer.read(), name=STDIN))
        elif Path(path).is_dir():
            problems = len(found.problems)
            inside = sorted(_in_folder(path, recursive, include, exclude, found))
            found.photographs += map(Photograph, inside)
            if not (inside or may_be_empty) and len(found.problems) == problems:
                hint = "" if recursive else " (-r looks into sub-folders)"
                found.problems.append(FileError(path, f"holds no photographs{hint}"))
        else:
            found.photographs.append(Photograph(path))
    if filelist is not None:
        found.photographs += map(Photograph, _listed(filelist))
    once = {photograph.name: photograph for photograph in found.photographs}
    if repeated := len(found.photographs) - len(once):
        found.left_out["named again"] += repeated
    found.photographs = list(once.values())
    return found


def _listed(filelist: Path) -> list[str]:
    try:
        lines = filelist.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(filelist, getattr(error, "strerror", None) or str(error)) from error
    return [line for line in lines if line.strip()]


def _in_folder(
    root: str, recursive: bool, include: Sequence[str], exclude: Sequence[str], found: Found
) -> Iterator[str]:
    """Yield the paths of the photographs in a folder; add what is left out, and folders that cannot be read."""

    def unreadable(error: OSError) -> None:
        found.problems.append(FileError(str(error.filename), error.strerror or str(error)))

    raw_too = raw.is_installed()
    for folder, folders, names in os.walk(root, onerror=unreadable):
        kept = []
        for name in folders if recursive else ():
            if _is_others(name):
                found.left_out["hidden and other programs' folders"] += 1
            elif os.path.islink(os.path.join(folder, name)):  # noqa: PTH114, PTH118 (called for every folder)
                found.left_out["links to folders"] += 1
            else:
                kept.append(name)
        folders[:] = kept  # those that are walked through
        for name in names:
            reason = _reason_against(root, folder, name, include, exclude, raw_too)
            if reason is None:
                yield os.path.join(folder, name)  # noqa: PTH118
            elif reason:
                found.left_out[reason] += 1


def _is_others(folder: str) -> bool:
    return folder.startswith(".") or any(fnmatch(folder, pattern) for pattern in OTHERS_FOLDERS)


def _reason_against(
    root: str, folder: str, name: str, include: Sequence[str], exclude: Sequence[str], raw_too: bool
) -> str | None:
    """Why a file is left out; None if it is taken, "" if nobody would take it for a photograph."""
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 (called for every file)
    if extension not in EXTENSIONS and extension not in RAW_EXTENSIONS:
        return ""
    if name.startswith("."):
        return "hidden files"
    if extension in RAW_EXTENSIONS and not raw_too:
        return f"raw photographs ({raw.INSTALL} to read them)"
    path = os.path.join(folder, name)  # noqa: PTH118
    relative = os.path.relpath(path, root)
    if include and not any(fnmatch(relative, pattern) for pattern in include):
        return "not of --include"
    if any(fnmatch(relative, pattern) for pattern in exclude):
        return "of --exclude"
    if not os.path.isfile(path):  # noqa: PTH113
        return "no files"
    return "attention figures" if extension == ".png" and is_figure(path) else None
