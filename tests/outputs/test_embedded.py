"""Captions in the photographs themselves: read back by exiftool, pixels and other people's metadata untouched."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captionlens.errors import CaptionlensError, FileError
from captionlens.files import stamp
from captionlens.outputs import exiftool
from captionlens.outputs.embedded import Embedded
from captionlens.runtime.caption import Caption
from captionlens.runtime.images import read_image
from captionlens.runtime.photograph import Photograph
from helpers.cli import COMMAND
from helpers.images import HEIC, quadrants
from helpers.paths import REPOSITORY
from helpers.raw import dng, nef

pytestmark = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")

PHOTOGRAPH = sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))[0]
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "avif": "AVIF", "heic": None}
TEXT = 'a dog & a <cat> "狗"'
OURS = (
    *("XMP-dc:Description", "XMP-iptcCore:AltTextAccessibility", "IFD0:ImageDescription", "IPTC:Caption-Abstract"),
    *("XMP-captionlens:Caption", "XMP-captionlens:Model", "XMP-captionlens:PhotographModified"),
)
# Of the file and places in it; and what a block of metadata that is new brings with itself.
OF_THE_FILE = ("System:", "SourceFile", "File:", "ExifTool:", "IFD0:StripOffsets", "QuickTime:MediaData")
OF_NEW_BLOCKS = {
    *("IPTC:CodedCharacterSet", "IPTC:EnvelopeRecordVersion", "IPTC:ApplicationRecordVersion"),
    *("IFD0:XResolution", "IFD0:YResolution", "IFD0:ResolutionUnit", "IFD0:YCbCrPositioning"),
}


@pytest.fixture
def sink() -> Iterator[Embedded]:
    sink = Embedded()
    yield sink
    sink.close()


def photograph(path: Path) -> Photograph:
    found = Photograph(path)
    found.file = stamp(path)
    return found


def caption(path: Path, text: str = TEXT) -> Caption:
    return Caption(text, path=str(path), photograph=photograph(path), model="small")


def metadata(path: Path) -> dict[str, Any]:
    done = subprocess.run(["exiftool", "-a", "-G1", "-json", path], capture_output=True, check=True)
    (found,) = json.loads(done.stdout)
    return dict(found)


def foreign(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name not in OURS and not name.startswith(OF_THE_FILE)}


def pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(read_image(path))


@pytest.mark.parametrize("extension", FORMATS)
def test_a_caption_is_embedded_and_nothing_else_changes(extension: str, sink: Embedded, tmp_path: Path) -> None:
    path = tmp_path / f"-a dög\n狗.{extension}"
    if extension == "heic":
        pytest.importorskip("pi_heif")
        path.write_bytes(HEIC)
    with Image.open(PHOTOGRAPH) as image:
        if form := FORMATS[extension]:
            image.save(path, form)
    subprocess.run(
        ["exiftool", "-q", "-overwrite_original", "-Artist=Anna", "-XMP-dc:Subject=holiday", "-XMP-xmp:Rating=4", path],
        check=True,
    )
    path.chmod(0o640)
    before, pixels_before, file_before = metadata(path), pixels(path), path.stat()
    assert not sink.has(photograph(path))
    sink.write(caption(path))
    after = metadata(path)
    wanted = dict.fromkeys(OURS[:2], TEXT) | {"XMP-captionlens:Caption": TEXT, "IFD0:ImageDescription": TEXT}
    if extension in ("jpg", "tif"):
        wanted["IPTC:Caption-Abstract"] = TEXT
    assert {name: after[name] for name in wanted} == wanted
    old, new = foreign(before), foreign(after)
    assert {name: new.get(name) for name in old} == old
    assert new.keys() - old.keys() <= OF_NEW_BLOCKS
    assert after["XMP-x:XMPToolkit"] == before["XMP-x:XMPToolkit"]
    np.testing.assert_array_equal(pixels(path), pixels_before)
    file_after = path.stat()
    assert (file_after.st_mtime_ns, file_after.st_mode) == (file_before.st_mtime_ns, file_before.st_mode)
    assert [child.name for child in tmp_path.iterdir()] == [path.name]
    assert sink.has(photograph(path))


def test_a_photograph_without_metadata(sink: Embedded, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(path)
    said = caption(path)
    sink.write(said)
    assert metadata(path)["XMP-dc:Description"] == TEXT
    assert said.file == stamp(path)  # what other outputs record
    assert sink.has(photograph(path))


def test_what_a_person_wrote_stays(sink: Embedded, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    shutil.copy(PHOTOGRAPH, path)
    subprocess.run(
        ["exiftool", "-q", "-overwrite_original", "-XMP-dc:Description=Anna's dog", "-ImageDescription=CAMERA", path],
        check=True,
    )
    before = path.read_bytes()
    assert sink.has(photograph(path))
    sink.write(caption(path))
    assert path.read_bytes() == before
    fill = Embedded("fill")
    assert not fill.has(photograph(path))
    fill.write(caption(path))
    assert fill.has(photograph(path))
    fill.close()
    found = metadata(path)
    assert found["XMP-dc:Description"] == "Anna's dog"
    assert found["XMP-iptcCore:AltTextAccessibility"] == found["IPTC:Caption-Abstract"] == TEXT
    overwrite = Embedded("overwrite")
    overwrite.write(caption(path))
    overwrite.close()
    found = metadata(path)
    assert found["XMP-dc:Description"] == TEXT
    assert found["XMP-captionlens:Replaced"] == "Anna's dog"
    assert found["IFD0:ImageDescription"] == "CAMERA"
    assert overwrite.replaced == 1
    error = Embedded("error")
    with pytest.raises(FileError, match=r"a\.jpg: has a caption already"):
        error.write(caption(path))
    error.close()


def test_a_changed_photograph_gets_a_new_caption(sink: Embedded, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    shutil.copy(PHOTOGRAPH, path)
    sink.write(caption(path))
    path.touch()
    assert not sink.has(photograph(path))
    sink.write(caption(path, "a cat"))
    found = metadata(path)
    assert found["XMP-dc:Description"] == found["IPTC:Caption-Abstract"] == "a cat"
    assert "XMP-captionlens:Replaced" not in found
    subprocess.run(["exiftool", "-q", "-overwrite_original", "-XMP-dc:Description=my cat", path], check=True)
    assert sink.has(photograph(path))  # corrected by a person
    sink.write(caption(path, "a cow"))
    assert metadata(path)["XMP-dc:Description"] == "my cat"


def test_what_cannot_be_written_is_named_and_left_alone(sink: Embedded, tmp_path: Path) -> None:
    paths = [tmp_path / "a.bmp", tmp_path / "b.jpg", tmp_path / "c.jpg"]
    Image.new("RGB", (8, 8)).save(paths[0])
    paths[1].write_text("no photograph")
    shutil.copy(PHOTOGRAPH, paths[2])
    contents = [path.read_bytes() for path in paths]
    for path in paths[:2]:
        with pytest.raises(FileError, match=path.name) as raised:
            sink.write(caption(path))
        assert str(raised.value).count(str(path)) == 1
    with pytest.raises(FileError, match="stdin"):
        sink.write(Caption("a dog", path="-"))
    sink.write(replace(caption(paths[2]), withheld=True))
    assert [path.read_bytes() for path in paths] == contents
    assert len(list(tmp_path.iterdir())) == 3


def test_without_exiftool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CaptionlensError, match="--embed needs exiftool"):
        exiftool.ExifTool()


def test_of_raw_files_only_dng_is_written_to(sink: Embedded, tmp_path: Path) -> None:
    rawpy = pytest.importorskip("rawpy")
    path, other = tmp_path / "a.dng", tmp_path / "b.nef"
    path.write_bytes(dng(quadrants(), orientation=6))
    other.write_bytes(nef())
    tags, pixels_before = foreign(metadata(path)), np.asarray(read_image(path))
    sink.write(caption(path))
    after = metadata(path)
    assert after["XMP-dc:Description"] == TEXT
    moved = {name for name, value in tags.items() if after.get(name) != value}
    assert moved <= {"SubIFD:StripOffsets", "SubIFD1:PreviewImageStart"}
    np.testing.assert_array_equal(read_image(path), pixels_before)
    with rawpy.imread(str(path)) as raw:
        assert (raw.raw_image == 500).all()
    with pytest.raises(FileError, match=r"b\.nef: is a raw file, which is never changed: --sidecar xmp writes"):
        sink.write(caption(other))
    assert other.read_bytes() == nef()
    assert sink.has(photograph(path))


@pytest.mark.slow
def test_a_read_only_photograph_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    paths = [tmp_path / f"{letter}.jpg" for letter in "abc"]
    for path in paths:
        shutil.copy(PHOTOGRAPH, path)
    paths[1].chmod(0o444)
    before = paths[1].read_bytes()
    command = [*without_roots_privilege(), *COMMAND, "caption", "--embed", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == [
        f"captionlens: {paths[1]}: is read-only",
        "captionlens: 1 of 3 photographs failed",
    ]
    assert done.returncode == 1
    assert paths[1].read_bytes() == before
    captions = [metadata(path).get("XMP-dc:Description") for path in paths]
    assert captions == [captions[0], None, captions[0]]
    assert captions[0]
    assert sorted(tmp_path.iterdir()) == paths


def without_roots_privilege() -> list[str]:
    """Begin of a command that permissions of files hold for, also where root runs it."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everything, and setpriv (util-linux) is not there to take that away")
    return ["setpriv", "--bounding-set=-dac_override"]
