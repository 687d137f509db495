"""Awkward photographs, one by one: what is read, with the pixels it comes out with, and what is refused, and why."""

import re
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.errors import UnreadableImage
from captionlens.runtime.images import MAX_PIXELS, Preprocessing, read_image
from helpers.icc import profile
from helpers.images import HEIC, ORIENTATION, UPRIGHT, assert_near, encoded, pixels_of, png, quadrants
from helpers.raw import dng

RED_FIRST = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
FRAMES: dict[str, Any] = {"save_all": True, "append_images": RED_FIRST[1:]}
QUADRANTS = np.asarray(quadrants())
STRIP = Image.new("RGB", (1, 3000), (200, 100, 50))
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
DEEP = np.linspace(0, 65535, 64).reshape(4, 16).astype(np.uint16)
DEEP_COLOUR = np.array([[[65535, 0, 32896], [257, 514, 0]]], ">u2")
FLOATS = np.linspace(0, 1, 12).reshape(3, 4).astype(np.float32)
# Of Display P3, adapted to D50 as in Apple's profile of it, with a plain exponent in place of sRGB's curve.
DISPLAY_P3 = profile((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407), 2.2)


def ycck() -> bytes:
    """A JPEG of CMYK that is stored as luminance, chrominance and black, as Photoshop writes it.

    Pillow writes no such file: here it writes the four planes as they are, and Adobe's marker (Adobe technical note
    5116, section 18) is set to say what they are.
    """
    cyan, magenta, yellow, black = quadrants().convert("CMYK").split()
    planes = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    stored = [plane.point(lambda value: 255 - value) for plane in planes]  # Pillow inverts what it writes
    content = bytearray(encoded(Image.merge("CMYK", (*stored, black)), "JPEG", quality=95))
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    content[transform] = 2  # YCCK
    return bytes(content)


def grey_with_alpha() -> bytes:
    grey, alpha = Image.new("L", (3, 2)), Image.new("L", (3, 2))
    alpha.paste(255, (0, 0, 3, 1))
    return encoded(Image.merge("LA", (grey, alpha)), "PNG")


def palette_with_transparency() -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 90, 80, 70])
    image.putpixel((1, 0), 1)
    return encoded(image, "PNG", transparency=0)


def bmp_from_the_top() -> bytes:
    """A BMP whose rows begin at the top, which a negative height says; Pillow writes only others."""
    rows = QUADRANTS[..., ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, 48, -32, 1, 24, 0, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + header + rows


def display_p3_in_srgb(colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """Display P3 to sRGB, by the matrices of CSS Color Module Level 4, section 18, and IEC 61966-2-1's curve."""
    linear = (np.array(colour) / 255) ** 2.2
    to_srgb = np.array([[1.2249, -0.2249, 0.0], [-0.042, 1.042, 0.0], [-0.0197, -0.0786, 1.0983]])
    return 255 * (1.055 * np.clip(to_srgb @ linear, 0.0031308, 1) ** (1 / 2.4) - 0.055)


def with_wrong_checksum(content: bytes, chunk: bytes) -> bytes:
    """A PNG in which the checksum of a chunk does not fit."""
    begin = content.index(chunk)
    end = begin + 4 + int.from_bytes(content[begin - 4 : begin], "big")
    return content[:end] + bytes([content[end] ^ 255]) + content[end + 1 :]


def grey(values: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(values[..., None], 3, axis=-1)


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[ORIENTATION] = orientation
    return made


# Name of the file: its content, the pixels (H, W, 3), and by how much the middle of each quarter may be off.
Read = tuple[Callable[[], bytes], Any, float]
READ: dict[str, Read] = {
    "stereo.mpo": (
        lambda: encoded(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (48, 32), "white")]),
        *(QUADRANTS, 30),
    ),
    "cmyk.jpg": (lambda: encoded(quadrants().convert("CMYK"), "JPEG", quality=95), QUADRANTS, 20),
    "ycck.jpg": (ycck, QUADRANTS, 20),
    "progressive.jpg": (lambda: encoded(quadrants(), "JPEG", progressive=True), QUADRANTS, 30),
    "garbage after its end.jpg": (lambda: encoded(quadrants(), "JPEG") + b"\0garbage" * 100, QUADRANTS, 30),
    "a jpeg called.png": (lambda: encoded(quadrants(), "JPEG"), QUADRANTS, 30),
    "orientation 99.jpg": (lambda: encoded(quadrants(), "JPEG", exif=exif(99)), QUADRANTS, 30),
    "16 bits grey.png": (lambda: encoded(Image.fromarray(DEEP), "PNG"), grey(np.rint(DEEP / 257)), 0),
    "16 bits grey.tif": (lambda: encoded(Image.fromarray(DEEP), "TIFF"), grey(np.rint(DEEP / 257)), 0),
    "16 bits colour.png": (lambda: png(2, 1, 16, 2, b"\0" + DEEP_COLOUR.tobytes()), DEEP_COLOUR // 257, 0),
    "palette with transparency.png": (palette_with_transparency, [[[255, 255, 255], [90, 80, 70]]], 0),
    "grey with alpha.png": (grey_with_alpha, [[[0] * 3] * 3, [[255] * 3] * 3], 0),
    "wrong checksum of the pixels.png": (
        lambda: with_wrong_checksum(encoded(quadrants(), "PNG"), b"IDAT"),  # deflate has one of its own
        *(QUADRANTS, 0),
    ),
    "animated.gif": (lambda: encoded(RED_FIRST[0], "GIF", **FRAMES), np.asarray(RED_FIRST[0]), 0),
    "animated.png": (lambda: encoded(RED_FIRST[0], "PNG", **FRAMES), np.asarray(RED_FIRST[0]), 0),
    "animated.webp": (lambda: encoded(RED_FIRST[0], "WEBP", lossless=True, **FRAMES), np.asarray(RED_FIRST[0]), 0),
    "pages.tif": (lambda: encoded(RED_FIRST[0], "TIFF", **FRAMES), np.asarray(RED_FIRST[0]), 0),
    "floats to 1.tif": (lambda: encoded(Image.fromarray(FLOATS), "TIFF"), grey(np.rint(FLOATS * 255)), 0),
    "floats to 255.tif": (lambda: encoded(Image.fromarray(FLOATS * 255), "TIFF"), grey(np.rint(FLOATS * 255)), 0),
    "rows from the top.bmp": (bmp_from_the_top, QUADRANTS, 0),
    "display p3.png": (
        lambda: encoded(Image.new("RGB", (8, 8), (150, 120, 80)), "PNG", icc_profile=DISPLAY_P3),
        *(np.broadcast_to(display_p3_in_srgb((150, 120, 80)), (8, 8, 3)), 2),
    ),
    "one pixel.jpg": (lambda: encoded(Image.new("RGB", (1, 1), (200, 100, 50)), "JPEG"), [[[200, 100, 50]]], 3),
    "upright strip.png": (lambda: encoded(STRIP, "PNG"), np.asarray(STRIP), 0),
    "strip.jpg": (
        lambda: encoded(STRIP.transpose(Image.Transpose.ROTATE_90), "JPEG"),
        np.asarray(STRIP)[:, 0][None],
        3,
    ),
    "a.avif": (lambda: encoded(quadrants(), "AVIF"), QUADRANTS, 30),
    "phone.heic": (lambda: HEIC, np.array([[[200, 20, 20]] * 32 + [[240] * 3] * 32] * 48), 30),
    "a heic called.jpg": (lambda: HEIC, np.array([[[200, 20, 20]] * 32 + [[240] * 3] * 32] * 48), 30),
    "camera.dng": (lambda: dng(quadrants()), QUADRANTS, 30),
    "turned camera.dng": (lambda: dng(quadrants(), orientation=6), QUADRANTS.transpose(1, 0, 2)[:, ::-1], 30),
}
PACKAGES = {
    "phone.heic": "pi_heif",
    "a heic called.jpg": "pi_heif",
    "camera.dng": "rawpy",
    "turned camera.dng": "rawpy",
}
PREPARATION = Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

NO_PHOTOGRAPH = "not a photograph of an allowed format"
# Name of the file: its content, and the cause, as a regular expression.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bytes.jpg": (lambda: b"", "is empty"),
    "text.jpg": (lambda: b"not a photograph at all, " * 20, NO_PHOTOGRAPH),
    "half.jpg": (
        lambda: encoded(NOISE, "JPEG")[:3000],
        r"truncated file \(image file is truncated \(\d+ bytes not processed\)\)",
    ),
    "wrong checksum of the header.png": (
        lambda: with_wrong_checksum(encoded(quadrants(), "PNG"), b"IHDR"),
        NO_PHOTOGRAPH,
    ),
    "10001 by 10001.png": (lambda: png(10_001, 10_001, 8, 0, b"\0"), f"10001x10001 is more than {MAX_PIXELS} pixels"),
    "camera without a preview.dng": (dng, "is a raw photograph without a preview: develop it, and caption that"),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read(name: str, tmp_path: Path) -> None:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    content, pixels, tolerance = READ[name]
    wanted = np.asarray(pixels, np.float64)
    path = tmp_path / name
    path.write_bytes(content())
    found = read_image(path)
    if tolerance:
        assert_near(found, wanted, tolerance)
    else:
        np.testing.assert_array_equal(pixels_of(found), wanted)
    # What the network sees comes by another way: JPEGs are decoded at a fraction of their size.
    seen = PREPARATION.resize(Image.fromarray(wanted.round().astype(np.uint8))).astype(int)
    assert np.abs(PREPARATION.read(path) - seen).mean() <= tolerance + 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    if name.endswith(".dng"):
        pytest.importorskip("rawpy")
    content, cause = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content())
    for read in (read_image, PREPARATION.read):
        with pytest.raises(UnreadableImage) as caught:
            read(path)
        assert caught.value.path == str(path)
        assert re.fullmatch(cause, caught.value.cause)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    stored = quadrants()
    wanted = UPRIGHT[orientation](np.asarray(stored).astype(np.int64))
    image = read_image(encoded(stored, form, exif=exif(orientation)))
    assert_near(image, wanted, tolerance=30)
    assert image.getexif().get(ORIENTATION, 1) == 1


@pytest.mark.parametrize("side", [13_500, 60_000, 2**31 - 1])
def test_a_header_that_promises_too_much_is_refused_before_decoding(side: int) -> None:
    assert side * side > MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnreadableImage, match="pixels"):
            read_image(png(side, side, 8, 0, b"\0"))


def test_heic_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(HEIC)
    with pytest.raises(UnreadableImage, match=r"IMG_0001\.HEIC: is HEIC, .* pip install 'captionlens\[heif\]'"):
        read_image(path)
    with pytest.raises(UnreadableImage, match="upload: is HEIC"):
        read_image(HEIC, name="upload")


@pytest.mark.parametrize("length", [0, 4, 11, 30, 64, 300])
def test_cut_off_heic_is_refused(length: int) -> None:
    pytest.importorskip("pi_heif")
    with pytest.raises(UnreadableImage):
        read_image(HEIC[:length])
