"""Attention figures as PNG files in a folder that mirrors the photographs' folders."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from captionlens.errors import FileError
from captionlens.files import atomic_path
from captionlens.outputs import OnExisting
from captionlens.outputs.caption_file import same_file
from captionlens.outputs.sinks import STDIN
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph

# Text in a figure's PNG file: whose figure it is, so that nothing else is ever replaced.
FIGURE_KEY = "captionlens:photograph"
_READ = 1024  # bytes in which the text stands: it comes first


class Figures:
    """A sink that draws a figure of every caption.

    The figure of `holiday/beach/dog.jpg` is `beach/dog.png`, where holiday is the folder that all photographs have in
    common; where that name belongs to something else, of `dog.heic` say, it is `beach/dog.jpg.png`.

    Args:
        folder: of the figures.
        names: paths of the photographs.
        on_existing: what to do where a photograph has a figure: leave it unless the photograph has changed (`skip`,
            `fill`), draw it anew, or refuse.
    """

    def __init__(self, folder: Path, names: Iterable[str], on_existing: OnExisting = "skip") -> None:
        self._folder, self._on_existing = folder, on_existing
        folders = {os.path.dirname(os.path.abspath(name)) for name in names if name != STDIN}  # noqa: PTH100, PTH120
        self._base = os.path.commonpath(folders) if folders else os.curdir
        self._taken: dict[Path, str] = {}

    def has(self, photograph: Photograph) -> bool:
        """Whether there is a figure of the photograph as its file is now."""
        if self._on_existing in ("overwrite", "error") or photograph.name == STDIN:
            return False
        owner = _owner(self._path(photograph.name))
        return owner is not None and same_file(owner.get("file"), photograph.file)

    def write(self, caption: Caption) -> None:
        """Draw the figure of a photograph that has a caption to show.

        Raises:
            CaptionlensError: the photograph has been removed since, the file is there and must not, or it cannot be
                written.
        """
        if caption.error is not None or caption.withheld:
            return
        path = self._path(caption.path or STDIN)
        if self._on_existing == "error" and path.exists():
            raise FileError(path, "exists already")
        if caption.photograph is not None and self.has(caption.photograph):
            return
        told = PngInfo()
        told.add_itxt(FIGURE_KEY, json.dumps({"path": self._relative(caption.path or STDIN), "file": caption.file}))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                caption.figure().save(temporary, format="PNG", pnginfo=told)
        except OSError as error:
            raise FileError(path, error.strerror or str(error)) from error

    def _path(self, name: str) -> Path:
        """The path of a figure: the first of two that is free or already of this photograph.

        Raises:
            FileError: neither is.
        """
        relative = self._relative(name)
        for path in (self._folder / Path(relative).with_suffix(".png"), self._folder / f"{relative}.png"):
            if self._taken.get(path, relative) != relative:
                continue
            owner = _owner(path)
            if not os.path.lexists(path) or (owner is not None and owner.get("path") == relative):
                self._taken[path] = relative
                return path
        raise FileError(self._folder / f"{relative}.png", "is not the figure of this photograph: move it away")

    def _relative(self, name: str) -> str:
        if name == STDIN:
            return "stdin"
        return os.path.relpath(os.path.abspath(name), self._base)  # noqa: PTH100


def is_figure(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a figure of ours, and so no photograph to caption."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (called for every file)
            return FIGURE_KEY.encode() in file.read(_READ)
    except OSError:
        return False


def _owner(path: Path) -> Mapping[str, Any] | None:
    """Facts that a figure tells of its photograph; None of a file that is no figure of ours."""
    if not is_figure(path):
        return None
    try:
        with Image.open(path, formats=("PNG",)) as image:
            assert isinstance(image, PngImageFile)
            owner = json.loads(str(image.info.get(FIGURE_KEY, "")))
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None
