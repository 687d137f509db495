"""Reduced photographs of the HTML report: inside it, or as files in a folder beside it.

The folder of `report.html` is `report_photographs`. In it each writing of the report has a folder of its own with a
random name, and those of earlier ones are removed when the new report is in its place: at no moment does a report show
the photographs of another one, or none.
"""

import base64
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from PIL import Image

from captionlens import files
from captionlens.drawing import heatmap
from captionlens.outputs import EMBEDDED_AT_MOST

_JPEG_QUALITY = 82
_MAX_SIDE = 480  # pixels that the longer side of a photograph is reduced to
_OWN = "captionlens-thumbs-"  # `cli.sources` leaves folders of this name out
_OWN_FOLDER = re.compile(rf"{_OWN}[0-9a-f]{{16}}")


class Thumbnails(Protocol):
    """A place for reduced photographs."""

    policy: str  # the sources of pictures in a Content-Security-Policy

    def add(self, image: Image.Image) -> tuple[str, tuple[int, int]]:
        """Reduce a photograph and store it.

        Returns:
            Its address for the page, and its width and height in pixels.

        Raises:
            OSError: it cannot be stored.
        """


class _Embedded:
    """Photographs in data URIs."""

    policy = "data:"

    def add(self, image: Image.Image) -> tuple[str, tuple[int, int]]:
        jpeg, size = _reduced(image)
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}", size


class _Folder:
    """Photographs in a folder, called by their number: nothing of their own names gets into a path."""

    policy = "'self'"  # of a page that was opened as a file: files

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        self._count = 0

    def add(self, image: Image.Image) -> tuple[str, tuple[int, int]]:
        jpeg, size = _reduced(image)
        self._count += 1
        name = f"{self._count:06d}.jpg"
        files.write_bytes(self._folder / name, jpeg)
        return f"{self._address}/{name}", size


@contextmanager
def open_thumbnails(report: Path, expected: int) -> Iterator[Thumbnails]:
    """Open the place for the photographs of a report that appears, complete, within the block.

    At the end of the block the folders of earlier reports at that path are removed; after an exception, its own is.

    Args:
        report: path of the report.
        expected: number of photographs; above EMBEDDED_AT_MOST they are laid beside the report.

    Raises:
        OSError: the folder cannot be made.
    """
    if report.exists() and not report.is_file():  # a pipe or a device has nothing beside it
        yield _Embedded()
        return
    outer = report.with_name(f"{report.stem}_photographs")
    own = outer / f"{_OWN}{secrets.token_hex(8)}"
    try:
        if expected <= EMBEDDED_AT_MOST:
            yield _Embedded()
        else:
            own.mkdir(parents=True)
            yield _Folder(own, quote(os.fsencode(f"{outer.name}/{own.name}")))
    except BaseException:
        _remove(outer, [own])
        raise
    _remove(outer, [folder for folder in outer.glob("*") if _OWN_FOLDER.fullmatch(folder.name) and folder != own])


def _remove(outer: Path, folders: Iterable[Path]) -> None:
    """Remove folders, and the one around them if nothing else is in it."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # it is not there, or not empty
        outer.rmdir()


def _reduced(image: Image.Image) -> tuple[bytes, tuple[int, int]]:
    small = heatmap.reduce(image, _MAX_SIDE)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return buffer.getvalue(), small.size
