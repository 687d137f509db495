"""Cameras' raw files: told by their content, and read by the preview that cameras embed in them, never developed."""

import importlib.util
import io
import os
import struct
from pathlib import Path
from typing import IO

from PIL import Image

from captionlens.errors import UnreadableImage

INSTALL = "pip install 'captionlens[raw]'"

# Of Olympus (three), Panasonic and Leica, Fujifilm, Canon (CRW), Minolta, Sigma. Canon's CR3 is a box file (ISO/IEC
# 14496-12) of the brand `crx `.
_SIGNATURES = (
    *(b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW"),
    *(b"II\x1a\0\0\0HEAPCCDR", b"\0MRM", b"FOVb"),
)
# The others are TIFF (revision 6.0, section 2), where these tags tell them: SubIFDs (TIFF technical note 1) and
# PhotometricInterpretation with the values of a colour filter array (ISO 12234-2) and of linear raw data (DNG 1.7.1),
# or DNGVersion.
_PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 262, 330, 50706
_RAW_PHOTOMETRIC = (32803, 34892)
_MOST_SUB_IFDS = 16

# EXIF's, by LibRaw's bits: 1 and 2 flip columns and rows, 4 swaps them.
_ORIENTATIONS = dict(enumerate((1, 2, 4, 3, 5, 8, 6, 7)))


def is_installed() -> bool:
    """Whether the package that reads raw files is there; it is not imported."""
    return importlib.util.find_spec("rawpy") is not None


def is_raw(file: IO[bytes]) -> bool:
    """Whether a file, read from where it stands, is a raw file; it stands there again afterwards."""
    begin = file.tell()
    header = file.read(16)
    if header[:4] in (b"II*\0", b"MM\0*"):
        found = header[8:11] == b"CR\2" or _is_raw_tiff(file, begin, header)
    else:
        found = header.startswith(_SIGNATURES) or header[4:12] == b"ftypcrx "
    file.seek(begin)
    return found


def _is_raw_tiff(file: IO[bytes], begin: int, header: bytes) -> bool:
    order = "<" if header.startswith(b"II") else ">"
    try:
        (at,) = struct.unpack(f"{order}I", header[4:8])
        first = _directory(file, begin + at, order)
        if _DNG_VERSION in first:
            return True
        directories = [first]
        number, value = first.get(_SUB_IFDS, (0, b""))
        if number > 1:
            file.seek(begin + struct.unpack(f"{order}I", value)[0])
            value = file.read(4 * min(number, _MOST_SUB_IFDS))
        directories += [_directory(file, begin + at, order) for (at,) in struct.iter_unpack(f"{order}I", value)]
    except struct.error:  # too short; Pillow tells
        return False
    return any(
        struct.unpack(f"{order}H", directory[_PHOTOMETRIC][1][:2])[0] in _RAW_PHOTOMETRIC
        for directory in directories
        if _PHOTOMETRIC in directory
    )


def _directory(file: IO[bytes], at: int, order: str) -> dict[int, tuple[int, bytes]]:
    """Number of values, and their four bytes (or place), of every tag of a directory of a TIFF file."""
    file.seek(at)
    (entries,) = struct.unpack(f"{order}H", file.read(2))
    content = file.read(12 * entries)
    found = struct.iter_unpack(f"{order}HHI4s", content[: len(content) // 12 * 12])
    return {tag: (number, value) for tag, _, number, value in found}


def read_preview(file: str | os.PathLike[str] | IO[bytes], name: str) -> tuple[bytes, int]:
    """Read the largest preview that is embedded in a raw file.

    Args:
        file: a path, or a file object that stands at the beginning of the raw file.
        name: of the photograph in errors.

    Returns:
        The preview as the content of a JPEG or PPM file, and the raw file's EXIF orientation. It holds for previews
        that have none of their own.

    Raises:
        UnreadableImage: there is no preview, the file is damaged, or the package that reads it is not installed.
    """
    try:
        import rawpy
    except ImportError:
        raise UnreadableImage(name, f"is a raw photograph, which another package reads: {INSTALL}") from None
    try:
        with rawpy.imread(_for_rawpy(file)) as raw:
            preview, orientation = raw.extract_thumb(), _ORIENTATIONS.get(raw.sizes.flip, 1)
    except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
        raise UnreadableImage(name, "is a raw photograph without a preview: develop it, and caption that") from None
    except rawpy.LibRawError as error:
        raise UnreadableImage(name, f"is a raw photograph that cannot be read ({error.args[0].decode()})") from error
    if isinstance(preview.data, bytes):
        return preview.data, orientation
    buffer = io.BytesIO()
    Image.fromarray(preview.data).save(buffer, "PPM")
    return buffer.getvalue(), orientation


def _for_rawpy(file: str | os.PathLike[str] | IO[bytes]) -> str | io.BytesIO:
    """The file as rawpy takes it: by its path, of which little is read, where that is Unicode; else its content."""
    if not isinstance(file, str | os.PathLike):
        return io.BytesIO(file.read())
    path = os.fspath(file)
    try:
        path.encode()
    except UnicodeEncodeError:
        return io.BytesIO(Path(path).read_bytes())
    return path
