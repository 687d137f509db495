"""What cannot be read is refused by name, and no damaged file raises anything else."""

import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captionlens.errors import UnreadableImage
from captionlens.runtime.images import describe_source, read_image
from captionlens.runtime.photograph import Photograph
from helpers.images import ORIENTATION, assert_near, encoded, quadrants


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
    content = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "JPEG")
    path = tmp_path / "half.jpg"
    path.write_bytes(content[: len(content) // 2])
    with Image.open(path) as image:
        assert "truncated" in refusal(image)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.jpg") == "no such file"
    assert refusal(tmp_path) == "is a folder, not a photograph"
    (tmp_path / "page.png").write_text("<html><svg xmlns='http://www.w3.org/2000/svg'/></html>")
    assert refusal(tmp_path / "page.png") == "not a photograph of an allowed format"
    assert refusal(b"") == "is empty"
    with pytest.raises(UnreadableImage, match="is empty"):
        Photograph(io.BytesIO()).image()
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
