"""Photographs named on a command line: files, folders, a list of files, an image on stdin."""

import sys
from pathlib import Path

from captionlens.errors import FileError
from captionlens.outputs.sinks import STDIN
from captionlens.runtime.images import EXTENSIONS
from captionlens.runtime.photograph import Photograph


def gather(paths: tuple[str, ...], filelist: Path | None, recursive: bool) -> tuple[list[Photograph], list[FileError]]:
    """Collect photographs in the order of the command line, and the errors of folders.

    Args:
        paths: of photographs and folders; `-` is an image on stdin.
        filelist: a text file with one path per line.
        recursive: include sub-folders.

    Raises:
        FileError: the list cannot be read.
    """
    photographs: list[Photograph] = []
    problems = []
    for path in paths:
        if path == STDIN:
            photographs.append(Photograph(sys.stdin.buffer.read(), name=STDIN))
        elif Path(path).is_dir():
            try:
                photographs += map(Photograph, _in_folder(Path(path), recursive))
            except FileError as error:
                problems.append(error)
        else:
            photographs.append(Photograph(path))
    if filelist is not None:
        photographs += map(Photograph, _listed(filelist))
    return photographs, problems


def _listed(filelist: Path) -> list[str]:
    try:
        lines = filelist.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(filelist, getattr(error, "strerror", None) or str(error)) from error
    return [line for line in lines if line.strip()]


def _in_folder(folder: Path, recursive: bool) -> list[str]:
    try:
        found = [
            str(file)
            for file in (folder.rglob("*") if recursive else folder.iterdir())
            if file.suffix.lower() in EXTENSIONS and file.is_file()
        ]
    except OSError as error:
        raise FileError(folder, error.strerror or str(error)) from error
    if not found:
        raise FileError(folder, "holds no photographs" + ("" if recursive else " (-r looks into sub-folders)"))
    return sorted(found)
