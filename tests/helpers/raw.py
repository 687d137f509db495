"""Raw files, small: DNG 1.4 (Adobe, 2012) with a thumbnail, Bayer data and a JPEG preview."""

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

Tag = tuple[int, int, Sequence[int] | bytes]  # number, type (TIFF 6.0, section 2) and values

_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL = 1, 2, 3, 4, 5
_SIZES = {_BYTE: 1, _ASCII: 1, _SHORT: 2, _LONG: 4, _RATIONAL: 8}
_SIDE = 64  # pixels of the Bayer data, in both directions


def dng(
    preview: Image.Image | bytes | None = None,
    *,
    thumbnail: Image.Image | None = None,
    orientation: int = 1,
    order: str = "<",
) -> bytes:
    """A raw file that LibRaw opens; its first picture, which Pillow would read, is a thumbnail.

    Args:
        preview: a picture, becomes a JPEG without EXIF; or the bytes of one; None: there is none.
        thumbnail: of mode RGB; None: 8 x 8 black pixels, which count as none where there is no preview.
        orientation: EXIF's, of the file.
        order: `<` as Intel's processors, or `>` as Motorola's.
    """
    file = _Tiff(order)
    bayer = np.full((_SIDE, _SIDE), 500, f"{order}u2").tobytes()
    raw: list[Tag] = [
        *_strip(_SIDE, _SIDE, file.add(bayer), len(bayer)),
        (258, _SHORT, [16]),  # bits of a sample
        (262, _SHORT, [32803]),  # colour filter array
        (277, _SHORT, [1]),  # samples of a pixel
        (33421, _SHORT, [2, 2]),  # of the colours' pattern: size,
        (33422, _BYTE, bytes([0, 1, 1, 2])),  # red, green, green, blue
        (50717, _LONG, [1023]),  # white
    ]
    parts = [file.add_directory(raw)]
    if preview is not None:
        parts.append(_add_preview(file, preview))
    small = thumbnail or Image.new("RGB", (8, 8))
    matrix = [value for row in range(3) for column in range(3) for value in (int(row == column), 1)]
    first: list[Tag] = [
        (254, _LONG, [int(bool(preview or thumbnail))]),  # a reduced picture
        *_strip(*small.size, file.add(small.tobytes()), len(small.tobytes())),
        (258, _SHORT, [8, 8, 8]),
        (262, _SHORT, [2]),  # RGB
        (271, _ASCII, b"Maker\0"),
        (272, _ASCII, b"Camera\0"),
        (274, _SHORT, [orientation]),
        (277, _SHORT, [3]),
        (330, _LONG, parts),
        (50706, _BYTE, bytes([1, 4, 0, 0])),  # version of DNG
        (50708, _ASCII, b"Maker Camera\0"),
        (50721, 10, matrix),  # XYZ to the camera's colours
        (50728, _RATIONAL, [1, 1] * 3),  # its neutral colour
        (50778, _SHORT, [21]),  # daylight
    ]
    return file.whole(file.add_directory(first))


def nef(*, order: str = "<") -> bytes:
    """A raw file like Nikon's: TIFF that nothing tells from others but the raw data in a directory of its own."""
    content = dng(Image.new("RGB", (48, 32)), order=order)
    version = struct.pack(f"{order}H", 50706)
    assert content.count(version) == 1
    return content.replace(version, struct.pack(f"{order}H", 50700))


def _add_preview(file: "_Tiff", preview: Image.Image | bytes) -> int:
    if isinstance(preview, Image.Image):
        buffer = io.BytesIO()
        preview.save(buffer, "JPEG", quality=95)
        preview = buffer.getvalue()
    with Image.open(io.BytesIO(preview)) as image:
        width, height = image.size
    return file.add_directory(
        [
            (254, _LONG, [1]),
            *_strip(width, height, file.add(preview), len(preview), compression=7),  # JPEG
            (258, _SHORT, [8, 8, 8]),
            (262, _SHORT, [6]),  # YCbCr
            (277, _SHORT, [3]),
        ]
    )


def _strip(width: int, height: int, at: int, length: int, compression: int = 1) -> list[Tag]:
    """The tags of a picture that lies in one piece."""
    return [
        *((256, _LONG, [width]), (257, _LONG, [height]), (259, _SHORT, [compression])),
        *((273, _LONG, [at]), (278, _LONG, [height]), (279, _LONG, [length])),
    ]


class _Tiff:
    """A TIFF file in the making (TIFF 6.0, section 2)."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._content = bytearray(8)

    def add(self, data: bytes) -> int:
        """Add data; return their place."""
        at = len(self._content)
        self._content += data + bytes(len(data) % 2)
        return at

    def add_directory(self, tags: list[Tag]) -> int:
        """Add a directory of tags, and values that have no room in it; return its place."""
        entries = b""
        for number, kind, values in sorted(tags):
            size = _SIZES.get(kind, 8)
            letter = {1: "B", 2: "H"}.get(size, "I")
            data = values if isinstance(values, bytes) else struct.pack(f"{self._order}{len(values)}{letter}", *values)
            place = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{self._order}I", self.add(data))
            entries += struct.pack(f"{self._order}HHI", number, kind, len(data) // size) + place
        return self.add(struct.pack(f"{self._order}H", len(tags)) + entries + bytes(4))

    def whole(self, first: int) -> bytes:
        """The file, with the place of its first directory."""
        mark = b"II*\0" if self._order == "<" else b"MM\0*"
        return mark + struct.pack(f"{self._order}I", first) + bytes(self._content[8:])
