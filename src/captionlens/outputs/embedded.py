"""Captions embedded in the photographs' own metadata, where photo programs look for them.

| property | in |
| --- | --- |
| XMP `dc:description` (x-default), `Iptc4xmpCore:AltTextAccessibility` | all formats |
| EXIF `ImageDescription` | JPEG, TIFF, PNG, WebP, HEIC, AVIF |
| IPTC `Caption-Abstract` | JPEG, TIFF |
| keywords, where asked for: XMP `dc:subject` | all formats |
| keywords: IPTC `Keywords` | JPEG, TIFF |

exiftool writes a copy in which pixels and all other metadata stay as they are. The copy takes the place of the
photograph, with its times and permissions. Cameras' raw files are left as the camera wrote them, but for DNG, whose
specification provides for XMP.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captionlens import files
from captionlens.errors import FileError
from captionlens.outputs import OnExisting
from captionlens.outputs.exiftool import ExifTool
from captionlens.outputs.keywords import Change, change, to_write
from captionlens.outputs.sinks import STDIN
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.raw import is_raw

_DESCRIPTION, _ALTERNATIVE = "XMP-dc:Description", "XMP-iptcCore:AltTextAccessibility"
_EXIF, _IPTC = "IFD0:ImageDescription", "IPTC:Caption-Abstract"
_SUBJECT, _IPTC_KEYWORDS = "XMP-dc:Subject", "IPTC:Keywords"
_OURS, _OUR_KEYWORDS = "XMP-captionlens:Caption", "XMP-captionlens:Keywords"
_READ = (
    *(_DESCRIPTION, _ALTERNATIVE, _EXIF, _IPTC, _OURS, "XMP-captionlens:PhotographModified", "File:MIMEType"),
    *(_SUBJECT, _IPTC_KEYWORDS, _OUR_KEYWORDS),
    *("XMP-x:XMPToolkit", "IPTC:CodedCharacterSet", "Photoshop:IPTCDigest", "File:CurrentIPTCDigest"),
)
_WITH_IPTC = ("image/jpeg", "image/tiff")
_WITH_EXIF = (*_WITH_IPTC, "image/png", "image/webp", "image/heic", "image/heif", "image/avif")
_PEEK = 1 << 17  # bytes at both ends of a file in which its XMP is looked for before exiftool is asked


class Embedded:
    """A sink that writes captions into the photographs.

    Args:
        on_existing: what to do where a caption is there, as in `outputs.sidecar.Sidecars`.
        keywords: whether to write the keywords of captions, too.

    Attributes:
        replaced: number of captions of somebody else that were replaced.

    Raises:
        CaptionlensError: exiftool is not installed.
    """

    def __init__(self, on_existing: OnExisting = "skip", *, keywords: bool = False) -> None:
        self._on_existing, self._keywords = on_existing, keywords
        self._tool = ExifTool()
        self.replaced = 0

    def close(self) -> None:
        """End exiftool."""
        self._tool.close()

    def has(self, photograph: Photograph) -> bool:
        """Whether the photograph has a caption that stays.

        Raises:
            FileError: its metadata cannot be read.
        """
        if photograph.name == STDIN or self._on_existing in ("overwrite", "error"):
            return False
        path = os.path.realpath(photograph.name)
        modified = str((photograph.file or {}).get("modified")).encode()
        try:
            ends = _ends(path)
        except OSError:  # reported when it is read as a photograph
            return False
        done = not self._keywords or b"captionlens:Keywords" in ends
        if b"urn:captionlens:xmp" in ends and modified in ends and done:
            return True
        if b"http://purl.org/dc/elements/1.1/" not in ends and b"8BIM" not in ends:
            return False
        return self._keeps(self._tool.read(path, *_READ), photograph.file)

    def write(self, caption: Caption) -> None:
        """Embed a caption, where there is one to show.

        Raises:
            FileError: the photograph is read-only, a camera's raw file, came from stdin, has a caption and must not, or
                cannot be written.
        """
        if caption.error is not None or caption.withheld:
            return
        if caption.path in (None, STDIN):
            raise FileError(STDIN, "an image from stdin has no file to embed a caption in")
        path = os.path.realpath(str(caption.path))
        if not os.access(path, os.W_OK):
            raise FileError(str(caption.path), "is read-only")
        found = self._tool.read(path, *_READ)
        if found.get("File:MIMEType") != "image/x-adobe-dng" and _is_raw(path):
            cause = "is a raw file, which is never changed: --sidecar xmp writes its caption beside it"
            raise FileError(str(caption.path), cause)
        if self._on_existing == "error" and _theirs(found):
            raise FileError(str(caption.path), "has a caption already")
        if self._on_existing in ("skip", "fill") and self._keeps(found, caption.file):
            return
        try:
            with files.atomic_path(path) as temporary:
                self._tool.write(path, str(temporary), self._tags(found, caption))
                _like(path, temporary)
        except OSError as error:
            raise FileError(path, error.strerror or str(error)) from error
        if caption.file is not None:  # what later sinks record is the file as it is now
            caption.file.update(files.stamp(path, checksum="sha256" in caption.file))

    def _keeps(self, found: Mapping[str, Any], file: Mapping[str, Any] | None) -> bool:
        done = not self._keywords or _OUR_KEYWORDS in found
        if _text(found, _OURS) and _text(found, _OURS) == _text(found, _DESCRIPTION):
            return done and bool(found.get("XMP-captionlens:PhotographModified") == (file or {}).get("modified"))
        if not _theirs(found):
            return False
        return self._on_existing == "skip" or bool(_text(found, _DESCRIPTION) and _text(found, _ALTERNATIVE) and done)

    def _tags(self, found: Mapping[str, Any], caption: Caption) -> list[tuple[str, str]]:
        """The tags to write: where somebody else's words stay, only the empty ones."""
        text = caption.hedged
        ours = _text(found, _OURS)
        former = _text(found, _DESCRIPTION) or _text(found, _IPTC)
        kind = found.get("File:MIMEType")
        places = [_DESCRIPTION, _ALTERNATIVE, *[_IPTC] * (kind in _WITH_IPTC), *[_EXIF] * (kind in _WITH_EXIF)]
        tags = {}
        for place in places:
            there = _text(found, place)
            # What cameras write into the EXIF description of every photograph is nobody's caption, but stays, too.
            stays = there and there != ours and (self._on_existing != "overwrite" or place == _EXIF)
            if not stays:
                tags[place] = text
        if former and former != ours and self._on_existing == "overwrite" and former != text:
            tags["XMP-captionlens:Replaced"] = former
            self.replaced += 1
        tags[_OURS] = text
        tags["XMP-captionlens:Model"] = caption.model
        tags["XMP-captionlens:PhotographModified"] = str((caption.file or {}).get("modified", ""))
        if toolkit := _text(found, "XMP-x:XMPToolkit"):
            tags["XMP-x:XMPToolkit"] = toolkit  # exiftool would put its own name there
        keywords = self._keyword_tags(found, caption) if self._keywords else []
        to_iptc = _IPTC in tags or any(tag.startswith(_IPTC_KEYWORDS) for tag, _ in keywords)
        if to_iptc and _is_new(found):
            tags["IPTC:CodedCharacterSet"] = "UTF8"  # of a block that is new: another's letters would be misread
        digest = found.get("Photoshop:IPTCDigest")
        if to_iptc and digest and digest == found.get("File:CurrentIPTCDigest"):
            tags["Photoshop:IPTCDigest"] = "new"  # else programs take the IPTC block for changed behind their back
        return [*tags.items(), *keywords]

    def _keyword_tags(self, found: Mapping[str, Any], caption: Caption) -> list[tuple[str, str]]:
        """The tags that change the keywords; those of other people are not even written anew."""
        xmp, iptc = _list(found, _SUBJECT), _list(found, _IPTC_KEYWORDS)
        again = self._on_existing == "overwrite"
        changed = change([*xmp, *iptc], str(found.get(_OUR_KEYWORDS, "")), to_write(caption), again=again)
        tags = [(f"{_SUBJECT}{sign}", word) for sign, word in _signed(changed)]
        if found.get("File:MIMEType") in _WITH_IPTC:
            in_utf8 = "IPTC:CodedCharacterSet" in found or _is_new(found)
            tags += [(f"{_IPTC_KEYWORDS}{sign}", word) for sign, word in _signed(changed) if in_utf8 or word.isascii()]
        return [*tags, (f"{_OUR_KEYWORDS}^", changed.record)]


def _signed(changed: Change) -> list[tuple[str, str]]:
    return [*(("-", word) for word in changed.removed), *(("+", word) for word in changed.added)]


def _is_new(found: Mapping[str, Any]) -> bool:
    """Whether a photograph has no IPTC block yet."""
    return "IPTC:CodedCharacterSet" not in found and not found.get("File:CurrentIPTCDigest")


def _list(found: Mapping[str, Any], place: str) -> list[str]:
    """The items of a list, of which exiftool gives a single one without its list."""
    value = found.get(place, [])
    return [str(item).strip() for item in (value if isinstance(value, list) else [value])]


def _theirs(found: Mapping[str, Any]) -> bool:
    return any(_text(found, place) for place in (_DESCRIPTION, _IPTC))


def _text(found: Mapping[str, Any], place: str) -> str:
    """A value as text; of a language alternative the default one."""
    value = found.get(place, "")
    if isinstance(value, dict):
        value = value.get("x-default", "")
    return str(value).strip()


def _is_raw(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return is_raw(file)
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error


def _ends(path: str) -> bytes:
    """Beginning and end of a file."""
    with open(path, "rb") as file:  # noqa: PTH123 (called for every photograph)
        begin = file.read(_PEEK)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(len(begin), size - _PEEK))
        return begin + file.read()


def _like(path: str, copy: Path) -> None:
    """Give a copy the times, permissions and owner of a photograph."""
    shutil.copystat(path, copy)
    if hasattr(os, "chown"):
        found = Path(path).stat()
        if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(copy, found.st_uid, found.st_gid)
