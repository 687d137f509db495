"""Sidecar files: the caption of a photograph in a text or XMP file beside it."""

import os
from pathlib import Path

from captionlens import files
from captionlens.errors import FileError, OptionError
from captionlens.outputs import ON_EXISTING, SIDECARS, OnExisting, Sidecar, xmp
from captionlens.runtime.caption import Caption


def sidecar_path(photo_path: str | os.PathLike[str], kind: Sidecar) -> Path:
    """Path of a photograph's sidecar: `photo.txt` or `photo.xmp` beside `photo.jpg`.

    Adobe's programs name XMP files so. darktable and digiKam name them `photo.jpg.xmp`; where such a file exists
    already, that is the path. Two photographs whose names differ only in the extension share one.

    Raises:
        OptionError: the kind is not known.
    """
    if kind not in SIDECARS:
        raise OptionError(f"sidecar must be one of {', '.join(SIDECARS)}, got {kind!r}")
    photo = Path(photo_path)
    if kind == "xmp":
        whole_name = photo.with_name(f"{photo.name}.xmp")
        if whole_name.exists():
            return whole_name
    return photo.with_suffix(f".{kind}")


def write_sidecar(
    photo_path: str | os.PathLike[str], caption: Caption, kind: Sidecar, on_existing: OnExisting = "error"
) -> Path | None:
    """Write a caption beside its photograph, atomically; one that the captioner is unsure of says so.

    Args:
        photo_path: the photograph.
        caption: its caption, without an error.
        kind: `txt`, one line of UTF-8, or `xmp`, see `captionlens.outputs.xmp`.
        on_existing: what to do where the sidecar exists: leave it, write the caption into it, or refuse.
            Overwriting an XMP file replaces only the caption and keeps every other property in it.

    Returns:
        The sidecar's path, or None where one existed and was left alone or the caption is withheld.

    Raises:
        OptionError: `kind` or `on_existing` is not known.
        FileError: the sidecar exists and `on_existing` is `error`, it is no XMP that can be changed, or it
            cannot be read or written.
        CaptionlensError: the caption's own error, where it has one.
    """
    if on_existing not in ON_EXISTING:
        raise OptionError(f"on-existing must be one of {', '.join(ON_EXISTING)}, got {on_existing!r}")
    path = sidecar_path(photo_path, kind)
    if caption.error is not None:
        raise caption.error
    if caption.withheld:
        return None
    try:
        # A broken link exists, too.
        exists = path.exists() or path.is_symlink()
        if exists and on_existing == "skip":
            return None
        if exists and on_existing == "error":
            raise FileError(path, "exists already")
        if kind == "txt":
            content = (caption.hedged + "\n").encode("utf-8", "replace")
        elif exists:
            content = xmp.describe(path.read_bytes(), caption.hedged)
        else:
            content = xmp.packet(caption.hedged)
        files.write_bytes(path, content)
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise FileError(path, f"cannot take a caption: {error}") from error
    return path
