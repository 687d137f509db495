"""Sidecar files: the caption of a photograph in a text or XMP file beside it."""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from captionlens import files
from captionlens.errors import FileError, OptionError
from captionlens.outputs import ON_EXISTING, SIDECAR_NAMES, SIDECARS, OnExisting, Sidecar, SidecarNames, xmp
from captionlens.outputs.caption_file import same_file
from captionlens.outputs.keywords import to_write
from captionlens.outputs.sinks import STDIN
from captionlens.runtime import EXTENSIONS, RAW_EXTENSIONS
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph

_PHOTOGRAPHS = EXTENSIONS | RAW_EXTENSIONS


class Sidecars:
    """A sink that writes sidecar files beside the photographs.

    Args:
        kind: `txt`, one line of UTF-8, or `xmp`, see `captionlens.outputs.xmp`.
        on_existing: what to do where a caption is there: `skip` leaves it, unless captionlens wrote it of a photograph
            that has changed since; `fill` writes besides what is empty; `overwrite` replaces it; `error` refuses.
        names: how sidecars are named, see `sidecar_path`.
        keywords: whether `xmp` also gets the keywords of captions. A sidecar of captionlens without them is not done.

    Attributes:
        replaced: number of captions of somebody else in XMP that were replaced.
    """

    def __init__(
        self,
        kind: Sidecar,
        on_existing: OnExisting = "skip",
        names: SidecarNames = "auto",
        *,
        keywords: bool = False,
    ) -> None:
        if on_existing not in ON_EXISTING:
            raise OptionError(f"on-existing must be one of {', '.join(ON_EXISTING)}, got {on_existing!r}")
        sidecar_path("", kind, names)  # refuses what it does not know
        self._kind, self._on_existing, self._names = kind, on_existing, names
        self._keywords = keywords and kind == "xmp"
        self._beside = _Siblings(None)
        self.replaced = 0

    def has(self, photograph: Photograph) -> bool:
        """Whether the photograph has a caption that stays.

        Raises:
            FileError: the sidecar cannot be read.
        """
        if photograph.name == STDIN or self._on_existing in ("overwrite", "error"):
            return False
        path = self._path(photograph.name)
        try:
            written = path.lstat()
            done = self._on_existing == "skip" and not self._keywords
            if done and written.st_mtime_ns >= os.stat(photograph.name).st_mtime_ns:  # noqa: PTH116
                return True  # by far the most: nothing has to be read
            if self._kind == "txt":
                return self._keeps_text(path)
            return self._keeps_packet(xmp.Packet(path.read_bytes()).found, photograph.file)
        except FileNotFoundError:
            return False
        except ValueError as error:
            raise FileError(path, f"cannot take a caption: {error}") from error
        except OSError as error:
            raise FileError(path, error.strerror or str(error)) from error

    def write(self, caption: Caption) -> None:
        """Write the sidecar of a photograph that has a caption to show.

        Raises:
            FileError: see `write_beside`.
        """
        self.write_beside(caption)

    def write_beside(self, caption: Caption) -> Path | None:
        """Do the same, and return the path if it was written.

        Raises:
            FileError: it cannot be written, exists and must not, is no XMP that can be changed, or the photograph came
                from stdin.
        """
        if caption.error is not None or caption.withheld:
            return None
        if caption.path in (None, STDIN):
            raise FileError(STDIN, "an image from stdin has no place for a sidecar")
        path = self._path(str(caption.path))
        try:
            exists = os.path.lexists(path)  # a broken link does, too
            if exists and self._on_existing == "error":
                raise FileError(path, "exists already")
            content = self._text(path, caption, exists) if self._kind == "txt" else self._packet(path, caption, exists)
            if content is None:
                return None
            files.write_bytes(path, content)
        except OSError as error:
            raise FileError(path, error.strerror or str(error)) from error
        return path

    def _text(self, path: Path, caption: Caption, exists: bool) -> bytes | None:
        """The text to write; None if the one that is there stays."""
        if exists and self._keeps_text(path):
            return None
        return (caption.hedged + "\n").encode("utf-8", "replace")

    def _packet(self, path: Path, caption: Caption, exists: bool) -> bytes | None:
        """The XMP to write; None if the one that is there stays."""
        try:
            packet = xmp.Packet(path.read_bytes() if exists else None)
            found = packet.found
            if exists and self._keeps_packet(found, caption.file):
                return None
            theirs = exists and not found.ours
            fill = theirs and self._on_existing != "overwrite"
            content = packet.describe(
                caption.hedged,
                source=xmp.Source(caption.model, caption.file),
                fill=fill,
                keywords=to_write(caption) if self._keywords else None,
                again=self._on_existing == "overwrite",
            )
            self.replaced += theirs and not fill and bool(found.description)
            return content
        except ValueError as error:
            raise FileError(path, f"cannot take a caption: {error}") from error

    def _keeps_text(self, path: Path) -> bool:
        return self._on_existing == "skip" or (self._on_existing == "fill" and bool(path.read_bytes().strip()))

    def _keeps_packet(self, found: xmp.Found, file: Mapping[str, Any] | None) -> bool:
        if self._on_existing not in ("skip", "fill"):
            return False
        done = found.keywords is not None or not self._keywords
        if found.ours:
            return same_file(found.file, file) and done
        return self._on_existing == "skip" or bool(found.description and found.alternative_text and done)

    def _path(self, name: str) -> Path:
        folder = os.path.dirname(name)  # noqa: PTH120 (called for every photograph)
        if self._beside.folder != folder:
            self._beside = _Siblings(folder)
        return _choose(name, self._kind, self._names, self._beside)


def sidecar_path(photo_path: str | os.PathLike[str], kind: Sidecar, names: SidecarNames = "auto") -> Path:
    """Path of a photograph's sidecar: `photo.xmp` beside `photo.jpg`, or `photo.jpg.xmp`.

    Adobe's programs name XMP files in the first way (`stem`), darktable and digiKam in the second (`name`). `auto`
    takes the second where such a file exists already, and where another photograph has the same stem, so that two
    never share a sidecar; else the first.

    Args:
        photo_path: the photograph.
        kind: of the sidecar.
        names: one of SIDECAR_NAMES.

    Raises:
        OptionError: the kind or the way of naming is not known.
    """
    if kind not in SIDECARS:
        raise OptionError(f"sidecar must be one of {', '.join(SIDECARS)}, got {kind!r}")
    if names not in SIDECAR_NAMES:
        raise OptionError(f"sidecar names must be one of {', '.join(SIDECAR_NAMES)}, got {names!r}")
    return _choose(os.fspath(photo_path), kind, names, _Siblings(os.path.dirname(photo_path)))  # noqa: PTH120


def write_sidecar(
    photo_path: str | os.PathLike[str], caption: Caption, kind: Sidecar, on_existing: OnExisting = "skip"
) -> Path | None:
    """Write a caption beside its photograph, atomically; one that the captioner is unsure of says so.

    Overwriting an XMP file replaces only the caption and keeps every other property in it. The caption's keywords,
    where it has some, join those in the file.

    Args:
        photo_path: the photograph.
        caption: its caption, without an error.
        kind, on_existing: see `Sidecars`.

    Returns:
        The sidecar's path, or None where one existed and was left alone or the caption is withheld.

    Raises:
        OptionError: `kind` or `on_existing` is not known.
        FileError: see `Sidecars.write_beside`.
        CaptionlensError: the caption's own error, where it has one.
    """
    if caption.error is not None:
        raise caption.error
    sidecars = Sidecars(kind, on_existing, keywords=caption.keywords is not None)
    return sidecars.write_beside(replace(caption, path=os.fspath(photo_path)))


class _Siblings:
    """The files of a folder, and how many of its photographs, raw ones included, have a stem."""

    def __init__(self, folder: str | None) -> None:
        self.folder = folder
        self.names: frozenset[str] = frozenset()
        if folder is not None:
            with suppress(OSError):  # reported when the sidecar is written
                self.names = frozenset(os.listdir(folder or os.curdir))  # noqa: PTH208 (called for every folder)
        parts = map(os.path.splitext, self.names)
        self.stems = Counter(stem for stem, end in parts if end.lower() in _PHOTOGRAPHS)


def _choose(photo: str, kind: Sidecar, names: SidecarNames, beside: _Siblings) -> Path:
    folder, name = os.path.split(photo)
    stem = os.path.splitext(name)[0]  # noqa: PTH122 (called for every photograph)
    whole = f"{name}.{kind}"
    if names == "name" or (names == "auto" and (whole in beside.names or beside.stems[stem] > 1)):
        return Path(folder, whole)
    return Path(folder, f"{stem}.{kind}")
