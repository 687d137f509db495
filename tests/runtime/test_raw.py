"""Raw files: told by their content, read by the preview in them, upright."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captionlens.errors import UnreadableImage
from captionlens.runtime.images import read_image
from captionlens.runtime.raw import is_raw
from helpers.images import ORIENTATION, UPRIGHT, assert_near, encoded, quadrants
from helpers.raw import dng, nef

rawpy = pytest.importorskip("rawpy")


def with_exif(orientation: int, *, at_the_beginning: bool) -> bytes:
    """A JPEG with an orientation of its own: behind JFIF's header as Pillow writes it, or first as cameras do."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encoded(quadrants(), "JPEG", exif=exif, quality=95)
    if not at_the_beginning:
        return content
    jfif = content[2 : 4 + int.from_bytes(content[4:6], "big")]
    assert jfif.startswith(b"\xff\xe0")
    return content.replace(jfif, b"", 1)


@pytest.mark.parametrize("order", "<>")
def test_the_file_of_these_tests_is_a_raw_file_to_libraw(order: str) -> None:
    with rawpy.imread(io.BytesIO(dng(quadrants(), order=order, orientation=6))) as raw:
        assert raw.raw_type == rawpy.RawType.Flat
        assert (raw.num_colors, raw.color_desc, raw.sizes.flip) == (3, b"RGBG", 6)
        assert (raw.raw_image == 500).all()
        assert raw.extract_thumb().format == rawpy.ThumbFormat.JPEG


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_preview_is_turned_once(orientation: int) -> None:
    wanted = UPRIGHT[orientation](np.asarray(quadrants()).astype(np.int64))
    for content in (
        dng(quadrants(), orientation=orientation, order=">"),
        dng(with_exif(orientation, at_the_beginning=True), orientation=orientation),
        dng(with_exif(orientation, at_the_beginning=False), orientation=orientation),
        dng(thumbnail=quadrants(), orientation=orientation),  # pixels, of which no EXIF tells anything
    ):
        assert_near(read_image(content), wanted, tolerance=30)


def test_a_preview_that_was_turned_already_stays_as_it_is() -> None:
    upright = with_exif(1, at_the_beginning=True)
    assert_near(read_image(dng(upright, orientation=6)), np.asarray(quadrants()), tolerance=30)


def test_a_nonsensical_orientation_is_ignored() -> None:
    for orientation in (0, 17, 65535):
        assert read_image(dng(thumbnail=quadrants(), orientation=orientation)).size in ((48, 32), (32, 48))


def test_the_larger_of_two_previews_is_read() -> None:
    image = read_image(dng(quadrants(480, 320), thumbnail=Image.new("RGB", (48, 32), "white")))
    assert_near(image, np.asarray(quadrants(480, 320)))
    small = read_image(dng(quadrants(480, 320), orientation=6), draft_size=80)
    assert small.size == (80, 120)


def test_every_source(tmp_path: Path) -> None:
    content = dng(quadrants())
    surrogate = tmp_path / "not-\udcff-unicode.jpg"
    named = [tmp_path / "Grüße 狗.dng", tmp_path / "photo.jpg", surrogate]
    for path in named:
        path.write_bytes(content)
    sources: list[Any] = [*named, str(named[0]), content, io.BytesIO(content)]
    for source in sources:
        assert_near(read_image(source), np.asarray(quadrants()))


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = encoded(quadrants(480, 320), "JPEG", quality=95)
    for content, cause in (
        (dng(), "is a raw photograph without a preview: develop it, and caption that"),
        (dng(jpeg[: len(jpeg) // 2]), "truncated file"),
        (dng(quadrants())[:-300], "not a photograph of an allowed format"),
        (b"IIRO" + bytes(300), r"is a raw photograph that cannot be read \(Unsupported file format"),
    ):
        with pytest.raises(UnreadableImage, match=f"^upload: {cause}"):
            read_image(content, name="upload")
    with pytest.raises(UnreadableImage, match="480x320 is more than 1000 pixels"):
        read_image(dng(quadrants(480, 320)), max_pixels=1000)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    path = tmp_path / "DSC_0001.NEF"
    path.write_bytes(dng(quadrants()))
    cause = r"is a raw photograph, which another package reads: pip install 'captionlens\[raw\]'"
    with pytest.raises(UnreadableImage, match=rf"DSC_0001\.NEF: {cause}"):
        read_image(path)


@pytest.mark.parametrize(
    "content",
    [
        *(nef(order="<"), nef(order=">"), dng(), dng(order=">")),
        *(b"II*\0\x10\0\0\0CR\2\0", b"IIRO\x08\0\0\0", b"IIRS\x08\0\0\0", b"MMOR\0\0\0\x08", b"IIU\0\x18\0\0\0"),
        *(
            b"FUJIFILMCCD-RAW 0201",
            b"\0\0\0\x18ftypcrx \0\0\0\1",
            b"II\x1a\0\0\0HEAPCCDR",
            b"\0MRM\0\0",
            b"FOVb\0\0\2\0",
        ),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_raw_files_are_told_by_their_content(content: bytes) -> None:
    file = io.BytesIO(b"before" + content)
    file.seek(6)
    assert is_raw(file)
    assert file.tell() == 6


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "AVIF", "BMP"])
def test_other_files_are_none(form: str) -> None:
    content = encoded(quadrants(), form)
    assert not is_raw(io.BytesIO(content))
    assert not is_raw(io.BytesIO(content[:9]))
    assert not is_raw(io.BytesIO(b""))


def test_no_damage_to_directories_raises() -> None:
    content = dng(quadrants())
    random = np.random.default_rng(0)
    for _ in range(2000):
        changed = bytearray(content[int.from_bytes(content[4:8], "little") - 200 :])
        for place in random.integers(0, len(changed), 4):
            changed[place] = random.integers(0, 256)
        is_raw(io.BytesIO(b"II*\0\xd0\0\0\0" + bytes(changed)))
