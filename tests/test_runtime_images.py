"""Reading photographs: every kind comes out upright and RGB, and what cannot be read is refused by name."""

import dataclasses
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from captionlens.errors import OptionError, UnreadableImage
from captionlens.runtime.images import MAX_PIXELS, Preprocessing, describe_source, read_image

ORIENTATION = 0x0112


def quadrants(width: int = 48, height: int = 32) -> Image.Image:
    """Red, green, blue and black quarters, row by row: any turn or flip shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 255
    pixels[: height // 2, width // 2 :, 1] = 255
    pixels[height // 2 :, : width // 2, 2] = 255
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels_of(image: Image.Image) -> NDArray[np.int64]:
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


def assert_near(image: Image.Image, wanted: NDArray[Any], tolerance: int = 12) -> None:
    found = pixels_of(image)
    assert found.shape == wanted.shape
    # The middle half of each quarter: codecs blur the edges.
    rows, columns = found.shape[0] // 4, found.shape[1] // 4
    for row in (rows // 2, -rows // 2):
        for column in (columns // 2, -columns // 2):
            assert np.abs(found[row, column] - wanted[row, column]).max() <= tolerance, (row, column)


# What EXIF says of the way the stored picture is to be shown: its row 0 is the visual ..., column 0 the ...
UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
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
    np.testing.assert_array_equal(
        pixels_of(read_image(encoded(quadrants(), form, **options))), np.asarray(quadrants())
    )


@pytest.mark.parametrize("mode", ["L", "1", "P"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_grey_bilevel_and_palette(mode: str, form: str) -> None:
    image = quadrants().convert(mode)
    np.testing.assert_array_equal(
        pixels_of(read_image(encoded(image, form))), np.asarray(image.convert("RGB"))
    )


def test_grey_jpeg() -> None:
    image = quadrants().convert("L")
    assert_near(read_image(encoded(image, "JPEG")), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg() -> None:
    assert_near(
        read_image(encoded(quadrants().convert("CMYK"), "JPEG", quality=95)), np.asarray(quadrants()), 20
    )


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


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for what Pillow does not write and for headers that lie."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


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
    quadrants(480, 320).save(
        path, "MPO", save_all=True, append_images=[Image.new("RGB", (480, 320), "white")]
    )
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


# What cannot be read.


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(source, **options)
    assert str(caught.value).startswith(f"{describe_source(source)}: ")
    return caught.value.cause


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_half_a_photograph_is_refused(form: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = encoded(Image.fromarray(noise), form)
    path = tmp_path / f"half.{form.lower()}"
    path.write_bytes(content[: int(len(content) * share)])
    cause = refusal(path)
    if form in ("JPEG", "PNG"):
        assert "truncated" in cause


def test_an_unloaded_truncated_pil_image_is_refused(tmp_path: Path) -> None:
    content = encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG"
    )
    path = tmp_path / "half.jpg"
    path.write_bytes(content[: len(content) // 2])
    with Image.open(path) as image:
        assert "truncated" in refusal(image)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.jpg") == "no such file"
    assert refusal(tmp_path) == "is a folder, not a photograph"
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a photograph at all, " * 20)
    (tmp_path / "page.png").write_text("<html><svg xmlns='http://www.w3.org/2000/svg'/></html>")
    for name in ("empty.jpg", "text.jpg", "page.png"):
        assert refusal(tmp_path / name) == "not a photograph of an allowed format"
    assert refusal(b"") == "not a photograph of an allowed format"
    assert "null byte" in refusal("a\0b.jpg")
    assert refusal("x" * 5000) == "File name too long"
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert "symbolic links" in refusal(tmp_path / "loop.jpg")


def test_formats_that_are_not_allowed_are_not_even_tried(tmp_path: Path) -> None:
    """EPS would run Ghostscript; the allowed formats are all decoded in the process."""
    for form in ("EPS", "ICO", "TGA", "PDF"):
        path = tmp_path / "disguised.jpg"
        quadrants().save(path, form)
        assert refusal(path) == "not a photograph of an allowed format"


def test_things_that_are_no_photograph() -> None:
    for thing in (None, 7, object()):
        refusal(thing)


def test_the_pixel_limit_counts_pixels() -> None:
    content = encoded(Image.new("L", (40, 30)), "PNG")
    assert read_image(content, max_pixels=1200).size == (40, 30)
    assert refusal(content, max_pixels=1199) == "40x30 is more than 1199 pixels"
    assert refusal(Image.new("L", (40, 30)), max_pixels=1199) == "40x30 is more than 1199 pixels"
    assert refusal(np.zeros((30, 40), np.uint8), max_pixels=1199) == "40x30 is more than 1199 pixels"


@pytest.mark.parametrize("side", [10_001, 13_500, 60_000, 2**31 - 1])
def test_a_header_that_promises_too_much_is_refused_before_decoding(side: int) -> None:
    assert side * side > MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "pixels" in refusal(png(side, side, 8, 0, b"\0"))


def test_a_large_photograph_below_the_limit_is_not_warned_of() -> None:
    """Pillow warns from 89 megapixels on, captionlens refuses from 100 on."""
    content = encoded(Image.new("1", (9_500, 9_500)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refusal(content, max_pixels=10**6) == "9500x9500 is more than 1000000 pixels"


def test_damaged_exif_does_not_matter() -> None:
    content = encoded(quadrants(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12\0\x03\0\0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_near(read_image(content), np.asarray(quadrants()), 30)


class Waiting(io.BytesIO):
    """A file whose first read takes until an event, or a moment."""

    def __init__(self, content: bytes, started: threading.Event, until: threading.Event) -> None:
        super().__init__(content)
        self.started, self.until = started, until

    def read(self, size: int | None = -1, /) -> bytes:
        self.started.set()
        self.until.wait(0.2)
        return super().read(size)


def test_threads_leave_the_warning_filters_alone() -> None:
    """A second thread that enters `warnings.catch_warnings` before the first has left keeps its filters."""
    content = encoded(quadrants(), "BMP")
    before = list(warnings.filters)
    first_started, second_started, first_done = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        read_image(Waiting(content, first_started, second_started))
        first_done.set()

    def second() -> None:
        first_started.wait()
        read_image(Waiting(content, second_started, first_done))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert list(warnings.filters) == before


def only_refuses(content: bytes) -> None:
    try:
        image = read_image(content, max_pixels=10**6, draft_size=64)
    except UnreadableImage as error:
        assert error.cause
        assert "\n" not in str(error)
    else:
        assert image.mode == "RGB"


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(content: bytes) -> None:
    only_refuses(content)


MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\0\1\0\0WEBP",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P6 ",
)


@given(st.sampled_from(MAGIC), st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_random_bytes_after_a_familiar_beginning(magic: bytes, rest: bytes) -> None:
    only_refuses(magic + rest)


def _victims() -> list[bytes]:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010E] = "a description"
    return [
        encoded(noise, "JPEG", exif=exif),
        encoded(noise, "JPEG", progressive=True),
        encoded(noise, "PNG", exif=exif),
        encoded(noise.quantize(16), "PNG", transparency=3),
        encoded(noise, "GIF"),
        encoded(noise, "TIFF", exif=exif),
        encoded(noise, "WEBP", exif=exif),
        encoded(noise, "BMP"),
        encoded(noise, "PPM"),
    ]


@given(st.sampled_from(_victims()), st.data())
@settings(max_examples=400, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_mutated_photographs_are_read_or_refused(content: bytes, data: st.DataObject) -> None:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        # Most of what matters is in the first bytes.
        limit = data.draw(st.sampled_from([64, 256, len(changed)]))
        position = data.draw(st.integers(0, min(limit, len(changed)) - 1))
        changed[position] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del changed[data.draw(st.integers(0, len(changed) - 1)) :]
    only_refuses(bytes(changed))


# Preprocessing.

PREPARATION = Preprocessing(12, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_normalising_is_the_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
    wanted = (pixels / 255 - np.array(PREPARATION.mean)) / np.array(PREPARATION.std)
    found = PREPARATION.normalise(pixels)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[1], PREPARATION.normalise(pixels[1]))


def triangle_resize(pixels: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Bilinear reduction as a matrix product: every new pixel is a triangle-weighted mean of the old ones."""

    def weights(old: int) -> NDArray[np.float64]:
        scale = old / size
        centres = (np.arange(size) + 0.5) * scale
        distances = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(scale, 1.0)
        table = np.clip(1 - distances, 0, None)
        return table / table.sum(1, keepdims=True)

    rows, columns = weights(pixels.shape[0]), weights(pixels.shape[1])
    return np.einsum("ih,hwc,jw->ijc", rows, pixels.astype(np.float64), columns)


@pytest.mark.parametrize("shape", [(40, 60, 3), (7, 9, 3), (12, 12, 3), (13, 300, 3)])
def test_resizing_squeezes_the_whole_photograph_into_the_square(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = PREPARATION.resize(Image.fromarray(pixels))
    assert found.shape == (12, 12, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, triangle_resize(pixels, 12), atol=1.01)


def test_apply_is_resize_then_normalise() -> None:
    image = quadrants(50, 70)
    np.testing.assert_array_equal(PREPARATION.apply(image), PREPARATION.normalise(PREPARATION.resize(image)))


def test_bicubic_is_another_filter() -> None:
    bicubic = dataclasses.replace(PREPARATION, interpolation="bicubic")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))
    wanted = np.asarray(image.resize((12, 12), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(bicubic.resize(image), wanted)
    assert (bicubic.resize(image) != PREPARATION.resize(image)).any()


def test_reading_a_large_jpeg_is_nearly_resizing_the_whole() -> None:
    ramp = np.linspace(0, 255, 400)
    pixels = np.stack(
        [np.add.outer(ramp, ramp) / 2, np.tile(ramp, (400, 1)), np.tile(ramp[:, None], 400)], -1
    )
    content = encoded(Image.fromarray(pixels.astype(np.uint8)), "JPEG", quality=95)
    found = PREPARATION.read(content).astype(int)
    wanted = PREPARATION.resize(read_image(content)).astype(int)
    assert np.abs(found - wanted).max() <= 6


def test_preprocessing_goes_to_plain_values_and_back() -> None:
    for preparation in (PREPARATION, Preprocessing(260, (0.5,) * 3, (0.5,) * 3, "bicubic")):
        assert Preprocessing.from_dict(preparation.to_dict()) == preparation
    values = PREPARATION.to_dict()
    assert values == {
        "size": 12,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    }
    del values["interpolation"]
    assert Preprocessing.from_dict(values) == PREPARATION


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
        ({"interpolation": "magic"}, "interpolation must be one of .*, got 'magic'"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be above 0"),
    ],
)
def test_preprocessing_refuses_nonsense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        dataclasses.replace(PREPARATION, **change)
