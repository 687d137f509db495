"""Reading photographs: every kind comes out upright and RGB."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.errors import UnreadableImage
from captionlens.runtime.images import describe_source, read_image
from helpers.icc import profile
from helpers.images import ORIENTATION, assert_near, encoded, pixels_of, quadrants


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


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_colour_is_laid_over_white(mode: str) -> None:
    black = Image.new("RGB", (6, 6))
    black.paste((255, 0, 0), (0, 0, 3, 6))
    image = black.convert(mode) if mode != "P" else black.quantize(4)
    hidden = image.getpixel((5, 5))
    found = pixels_of(read_image(encoded(image, "PNG", transparency=hidden)))
    assert (found[:, 3:] == 255).all()
    assert (found[:, :3].sum(-1) < 3 * 255).all() or mode == "1"


def test_sixteen_bit_grey_is_turned_upright() -> None:
    deep = np.linspace(0, 65535, 6).reshape(2, 3).astype(np.uint16)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    found = pixels_of(read_image(encoded(Image.fromarray(deep), "PNG", exif=exif)))
    np.testing.assert_array_equal(found[..., 0], np.rint(deep / 257).T[:, ::-1])


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_float_tiff_with_odd_numbers(odd: float) -> None:
    values = np.array([[0.0, 0.5], [1.0, odd]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pixels_of(read_image(encoded(Image.fromarray(values), "TIFF")))
        nothing = pixels_of(read_image(encoded(Image.fromarray(np.full((2, 2), odd, np.float32)), "TIFF")))
    assert found[..., 0].tolist() == [[0, 128], [255, 255 if odd == np.inf else 0]]
    assert set(nothing.ravel()) == {255 if odd == np.inf else 0}


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
