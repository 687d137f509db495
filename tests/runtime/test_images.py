"""Reading photographs: every kind comes out upright and RGB."""

import base64
import io
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.errors import UnreadableImage
from captionlens.runtime.images import describe_source, read_image
from helpers.images import ORIENTATION, UPRIGHT, assert_near, encoded, pixels_of, png, quadrants

Colour = tuple[float, float, float]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    stored = quadrants()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    wanted = UPRIGHT[orientation](np.asarray(stored).astype(np.int64))
    image = read_image(encoded(stored, form, exif=exif))
    assert_near(image, wanted, tolerance=30)
    assert image.getexif().get(ORIENTATION, 1) == 1


def test_a_nonsensical_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 99
    assert_near(read_image(encoded(quadrants(), "JPEG", exif=exif)), np.asarray(quadrants()), 30)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP"])
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(pixels_of(read_image(encoded(quadrants(), form, **options))), np.asarray(quadrants()))


@pytest.mark.parametrize("mode", ["L", "1", "P"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_grey_bilevel_and_palette(mode: str, form: str) -> None:
    image = quadrants().convert(mode)
    np.testing.assert_array_equal(pixels_of(read_image(encoded(image, form))), np.asarray(image.convert("RGB")))


def test_grey_jpeg() -> None:
    image = quadrants().convert("L")
    assert_near(read_image(encoded(image, "JPEG")), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg() -> None:
    assert_near(read_image(encoded(quadrants().convert("CMYK"), "JPEG", quality=95)), np.asarray(quadrants()), 20)


def profile(red: Colour, green: Colour, blue: Colour, gamma: float, space: bytes = b"RGB ") -> bytes:
    """An ICC profile of a display, by the XYZ of its colours (ICC.1:2001-04, 6.3.1.2) relative to D50."""

    def xyz(values: Colour) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + bytes(78) + bytes(3)
    parts = {b"desc": name, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": xyz((0.9642, 1, 0.8249))}
    parts |= {
        b"rXYZ": xyz(red),
        b"gXYZ": xyz(green),
        b"bXYZ": xyz(blue),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, data = struct.pack(">I", len(parts)), b""
    begin = 128 + 4 + 12 * len(parts)
    for tag, content in parts.items():
        table += tag + struct.pack(">II", begin + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", begin + len(data), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    header += (
        bytes(12) + b"acsp" + bytes(28) + b"".join(struct.pack(">i", round(v * 65536)) for v in (0.9642, 1, 0.8249))
    )
    return header + bytes(128 - len(header)) + table + data


# Of Adobe RGB (1998), section 4.3.1.1, adapted to D50.
WIDE = profile((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 2.19921875)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_colours_of_a_profile_become_those_of_srgb(form: str) -> None:
    picture = Image.new("RGB", (16, 16), (144, 190, 72))
    exact: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    settings = {"icc_profile": WIDE, **exact.get(form, {})}
    read = np.asarray(read_image(encoded(picture, form, **settings)))
    np.testing.assert_allclose(read[8, 8], to_srgb((144, 190, 72)), atol=3)
    assert abs(read[8, 8].astype(int) - (144, 190, 72)).max() > 15
    grey = Image.new("RGB", (16, 16), (128, 128, 128))
    np.testing.assert_allclose(np.asarray(read_image(encoded(grey, form, **settings))), 128, atol=2)


def to_srgb(colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """Adobe RGB to sRGB by their matrices (Adobe RGB (1998), 4.3.5.3; IEC 61966-2-1)."""
    linear = (np.array(colour) / 255) ** 2.19921875
    xyz = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]) @ linear
    srgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]) @ xyz
    srgb = np.clip(srgb, 0, 1)
    return 255 * np.where(srgb <= 0.0031308, 12.92 * srgb, 1.055 * srgb ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("damaged", [b"no profile", WIDE[:200], profile((1, 0, 0), (0, 1, 0), (0, 0, 1), 1, b"GRAY")])
def test_a_profile_that_does_not_fit_is_ignored(damaged: bytes) -> None:
    picture = Image.new("RGB", (16, 16), (144, 190, 72))
    assert read_image(encoded(picture, "PNG", icc_profile=damaged)).getpixel((0, 0)) == (144, 190, 72)


def test_transparency_is_laid_over_white() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:2, :, 3] = 255  # opaque above, half-transparent and transparent below
    rgba[2, :, 3] = 128
    image = pixels_of(read_image(encoded(Image.fromarray(rgba), "PNG")))
    assert (image[:2] == (200, 0, 0)).all()
    white = 255 * (1 - 128 / 255)
    np.testing.assert_allclose(image[2, 0], [200 * 128 / 255 + white, white, white], atol=1)
    assert (image[3] == 255).all()


def test_grey_with_alpha_is_laid_over_white() -> None:
    grey_alpha = np.zeros((2, 3, 2), np.uint8)
    grey_alpha[0, :, 1] = 255
    image = Image.merge("LA", [Image.fromarray(grey_alpha[..., channel]) for channel in (0, 1)])
    found = pixels_of(read_image(encoded(image, "PNG")))
    assert (found[0] == 0).all()
    assert (found[1] == 255).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_colour_is_laid_over_white(mode: str) -> None:
    black = Image.new("RGB", (6, 6))
    black.paste((255, 0, 0), (0, 0, 3, 6))
    image = black.convert(mode) if mode != "P" else black.quantize(4)
    hidden = image.getpixel((5, 5))
    found = pixels_of(read_image(encoded(image, "PNG", transparency=hidden)))
    assert (found[:, 3:] == 255).all()
    assert (found[:, :3].sum(-1) < 3 * 255).all() or mode == "1"


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_greys(form: str) -> None:
    deep = np.linspace(0, 65535, 64).reshape(4, 16).astype(np.uint16)
    image = Image.fromarray(deep)
    assert image.mode == "I;16"
    found = pixels_of(read_image(encoded(image, form)))
    wanted = np.rint(deep / 257).astype(np.int64)
    np.testing.assert_array_equal(found, np.repeat(wanted[..., None], 3, axis=-1))


def test_sixteen_bit_grey_is_turned_upright() -> None:
    deep = np.linspace(0, 65535, 6).reshape(2, 3).astype(np.uint16)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    found = pixels_of(read_image(encoded(Image.fromarray(deep), "PNG", exif=exif)))
    np.testing.assert_array_equal(found[..., 0], np.rint(deep / 257).T[:, ::-1])


def test_sixteen_bit_colour() -> None:
    deep = np.array([[[65535, 0, 32896], [257, 514, 0]]], ">u2")
    found = pixels_of(read_image(png(2, 1, 16, 2, b"\0" + deep.tobytes())))
    np.testing.assert_array_equal(found, deep.astype(np.int64) // 257)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_float_tiff(scale: float) -> None:
    values = (np.linspace(0, 1, 12).reshape(3, 4) * scale).astype(np.float32)
    found = pixels_of(read_image(encoded(Image.fromarray(values), "TIFF")))
    np.testing.assert_array_equal(found[..., 0], np.rint(values / scale * 255))


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_float_tiff_with_odd_numbers(odd: float) -> None:
    values = np.array([[0.0, 0.5], [1.0, odd]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pixels_of(read_image(encoded(Image.fromarray(values), "TIFF")))
        nothing = pixels_of(read_image(encoded(Image.fromarray(np.full((2, 2), odd, np.float32)), "TIFF")))
    assert found[..., 0].tolist() == [[0, 128], [255, 255 if odd == np.inf else 0]]
    assert set(nothing.ravel()) == {255 if odd == np.inf else 0}


def test_of_an_animation_the_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for form in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if form == "WEBP" else {}
        content = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=50, **options)
        assert (pixels_of(read_image(content)) == (255, 0, 0)).all(), form


def test_of_a_multi_picture_jpeg_the_first_picture(tmp_path: Path) -> None:
    path = tmp_path / "stereo.mpo"
    quadrants(480, 320).save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (480, 320), "white")])
    with Image.open(path) as image:
        assert image.format == "MPO"
    assert_near(read_image(path), np.asarray(quadrants(480, 320)))
    small = read_image(path, draft_size=80)
    assert small.size == (120, 80)
    assert_near(small, np.asarray(quadrants(120, 80)), 30)


@pytest.mark.parametrize("size", [(640, 480), (479, 641), (60, 200)])
def test_a_draft_is_a_smaller_picture_of_the_same(size: tuple[int, int]) -> None:
    content = encoded(quadrants(*size), "JPEG", quality=95)
    small = read_image(content, draft_size=75)
    assert min(small.size) >= min(75, *size)
    if min(size) >= 150:
        assert small.size[0] <= size[0] // 2 + 1
    whole = read_image(content).resize(small.size)
    assert_near(small, np.asarray(whole), 20)


def test_an_upright_draft_has_the_upright_size() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    small = read_image(encoded(quadrants(640, 320), "JPEG", exif=exif), draft_size=80)
    assert small.size == (80, 160)


# Every kind of source.


def test_all_sources_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    quadrants().save(path)
    wanted = np.asarray(quadrants())
    with path.open("rb") as file:
        sources: list[Any] = [path, str(path), path.read_bytes(), file, Image.open(path), quadrants(), wanted]
        for source in sources:
            np.testing.assert_array_equal(pixels_of(read_image(source)), wanted, err_msg=str(type(source)))
    assert np.asarray(read_image(wanted)) is not wanted


def test_reading_leaves_a_file_object_open(tmp_path: Path) -> None:
    buffer = io.BytesIO(encoded(quadrants(), "PNG"))
    read_image(buffer)
    assert not buffer.closed


def test_arrays() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(pixels_of(read_image(grey)), np.repeat(grey[..., None], 3, -1))
    strided = np.asarray(quadrants())[::2, ::-1]
    np.testing.assert_array_equal(pixels_of(read_image(strided)), strided)
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (pixels_of(read_image(clear)) == 255).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((4, 4), np.uint16),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_another_form_are_refused(array: NDArray[Any]) -> None:
    with pytest.raises(UnreadableImage, match=r"<ndarray>: want uint8 \(H, W, 3\), got"):
        read_image(array)


def test_describe_source(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    quadrants().save(path)
    assert describe_source(path) == describe_source(str(path)) == str(path)
    with path.open("rb") as file:
        assert describe_source(file) == str(path)
    with Image.open(path) as image:
        assert describe_source(image) == str(path)
    assert describe_source(b"") == "<bytes>"
    assert describe_source(io.BytesIO()) == "<BytesIO>"


# 64 x 48 pixels, the left half red and the right half light grey, by libheif's encoder at quality 50.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9j"
    "AAAAAERAAAEAAQAAAAABoQABAAAAAAAAAGcAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/Wlw"
    "cnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AA"
    "AAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAA"
    "QAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWB"
    "AgMFhAAAAG9tZGF0AAAAYygBrxOA9SeBP//jIUf/vI54fkB7MSrfzxLqPo0h/+FCXiSU4RE5yxvy7KQhD8Xeto1ztRZnEjBcNnAVKIABQBBY"
    "31tusGt27mSpYdP3JnwAZ7kMaFu4KATWaOJMMqaXmbAGjA=="
)


@pytest.mark.parametrize("name", ["photo.heic", "photo.jpg"])
def test_pictures_of_phones_are_read_whatever_they_are_called(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    path = tmp_path / name
    path.write_bytes(HEIC)
    expected = np.full((48, 64, 3), 240)
    expected[:, :32] = (200, 20, 20)
    for source in (path, HEIC, io.BytesIO(HEIC)):
        pixels = pixels_of(read_image(source)).astype(int)
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected)[:, [*range(28), *range(36, 64)]].max() < 30


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
