"""Names of photographs that come out of packed files: their own where any file system takes them, else numbers."""

import os
import re
from pathlib import Path, PurePosixPath

from captionlens.datasets.packed import Sample
from captionlens.runtime import EXTENSIONS

# Names that every file system takes; folders have no full stops, so that none is called like a photograph.
_PLAIN = re.compile(r"\w([\w+=@(), .-]*\w)?")
_PLAIN_FOLDER = re.compile(r"\w([\w+=@(), -]*\w)?")
_LONGEST = 120  # bytes of such a name

# Beginnings of files by which photographs without a name are called.
_SIGNATURES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"P5": ".pgm",
    b"P6": ".ppm",
}


class PhotographNames:
    """Names of the photographs of one packed file, in the order of the file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()
        self._number = 0

    def new(self, sample: Sample) -> Path:
        """A path that no other photograph has."""
        self._number += 1
        *folders, name = PurePosixPath(sample.name.replace("\\", "/")).parts or ("",)
        stem, extension = os.path.splitext(name)  # noqa: PTH122
        if extension.lower() not in EXTENSIONS:
            stem, extension = name, _extension(sample.image)
        plain = _PLAIN.fullmatch(stem) and all(map(_PLAIN_FOLDER.fullmatch, folders))
        if not plain or any(len(part.encode()) > _LONGEST for part in (*folders, stem)):
            folders, stem = [], f"{self._number:06d}"
        path = self._folder.joinpath(*folders, stem + extension)
        while str(path).lower() in self._taken:
            stem += f"-{self._number}"
            path = path.with_name(stem + extension)
        self._taken.add(str(path).lower())
        return path


def _extension(content: bytes) -> str:
    """Extension for a photograph without one; what it is, its content tells to all that read it."""
    if content[8:12] == b"WEBP":
        return ".webp"
    if content[4:8] == b"ftyp":
        return ".avif" if b"avif" in content[:64] else ".heic"
    return next((extension for begin, extension in _SIGNATURES.items() if content.startswith(begin)), ".jpg")
