"""Captions and keywords as other programs read them: darktable and Exiv2, where they are installed."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from captionlens.outputs.embedded import Embedded
from captionlens.outputs.sidecar import Sidecars
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph
from helpers.paths import PHOTOGRAPHS

TEXT = 'a dog & a <cat> "狗"'
KEYWORDS = ("dog", "Käse & 狗")
DESCRIPTION = 3  # Xmp.dc.description in darktable's table of metadata

needs_darktable = pytest.mark.skipif(shutil.which("darktable-cli") is None, reason="darktable is not installed")
needs_exiv2 = pytest.mark.skipif(shutil.which("exiv2") is None, reason="exiv2 is not installed")
needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")


@dataclass(frozen=True)
class Known:
    """What darktable's library has of a photograph that it imported."""

    description: str | None
    tags: set[str]
    stars: int
    history: list[tuple[object, ...]]


def imported(photo: Path, folder: Path, *options: str) -> Known:
    """Import a photograph into a library that is new, as darktable's export without a window does."""
    folder.mkdir()
    places = {"configdir": folder, "cachedir": folder, "tmpdir": folder, "library": folder / "library.db"}
    named = [part for name, place in places.items() for part in (f"--{name}", str(place))]
    command = ["darktable-cli", str(photo), str(folder / "out.jpg"), "--width", "64", "--core", "--disable-opencl"]
    home = os.environ | {"HOME": str(folder)}
    subprocess.run([*command, *named, *options], env=home, check=True, capture_output=True)
    with closing(sqlite3.connect(folder / "library.db")) as library:
        library.execute("ATTACH DATABASE ? AS other", [str(folder / "data.db")])
        ((flags,),) = library.execute("SELECT flags FROM images")
        description = library.execute("SELECT value FROM meta_data WHERE key = ?", [DESCRIPTION]).fetchone()
        tags = library.execute("SELECT name FROM tagged_images JOIN other.tags ON tags.id = tagid")
        return Known(
            description=description and description[0],
            tags={name for (name,) in tags if not name.startswith("darktable|")},
            stars=flags & 7,
            history=library.execute("SELECT num, operation, op_params, enabled FROM history ORDER BY num").fetchall(),
        )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return Path(shutil.copy(PHOTOGRAPHS / "horses.jpg", tmp_path))


def caption(photo: Path) -> Caption:
    return Caption(TEXT, path=str(photo), photograph=Photograph(photo), model="small", keywords=KEYWORDS)


@pytest.mark.slow
@needs_darktable
def test_darktable_reads_a_sidecar_that_is_named_as_its_own(photo: Path, tmp_path: Path) -> None:
    path = Sidecars("xmp", names="name", keywords=True).write_beside(caption(photo))
    assert path == tmp_path / "horses.jpg.xmp"
    known = imported(photo, tmp_path / "darktable")
    assert (known.description, known.tags) == (TEXT, set(KEYWORDS))


@pytest.mark.slow
@needs_darktable
def test_darktables_own_sidecar_keeps_its_edits_beside_the_caption(photo: Path, tmp_path: Path) -> None:
    before = imported(photo, tmp_path / "before", "--conf", "write_sidecar_files=on import")
    sidecar = tmp_path / "horses.jpg.xmp"
    content = sidecar.read_text("utf-8")
    assert 'xmp:Rating="1"' in content
    sidecar.write_text(content.replace('xmp:Rating="1"', 'xmp:Rating="4"'), "utf-8")
    assert Sidecars("xmp", "fill", keywords=True).write_beside(caption(photo)) == sidecar
    known = imported(photo, tmp_path / "after")
    assert (known.description, known.tags, known.stars) == (TEXT, set(KEYWORDS), 4)
    assert known.history == before.history != []


@pytest.mark.slow
@needs_darktable
@needs_exiftool
def test_darktable_reads_an_embedded_caption(photo: Path, tmp_path: Path) -> None:
    with closing(Embedded(keywords=True)) as sink:
        sink.write(caption(photo))
    known = imported(photo, tmp_path / "darktable")
    assert (known.description, known.tags) == (TEXT, set(KEYWORDS))


@needs_exiv2
@needs_exiftool
@pytest.mark.parametrize("place", ["photo.xmp", "photo.jpg.xmp", "photo.jpg"])
def test_exiv2_reads_sidecars_and_embedded_captions(place: str, photo: Path, tmp_path: Path) -> None:
    photo = photo.rename(tmp_path / "photo.jpg")
    if place == "photo.jpg":
        with closing(Embedded(keywords=True)) as sink:
            sink.write(caption(photo))
    else:
        Sidecars("xmp", names="stem" if place == "photo.xmp" else "name", keywords=True).write(caption(photo))
    keys = ("Xmp.dc.description", "Xmp.iptc.AltTextAccessibility", "Xmp.dc.subject")
    wanted = [part for key in keys for part in ("-K", key)]
    command = ["exiv2", *wanted, "-P", "kt", str(tmp_path / place)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert dict(line.split(maxsplit=1) for line in lines) == {
        "Xmp.dc.description": f'lang="x-default" {TEXT}',
        "Xmp.iptc.AltTextAccessibility": f'lang="x-default" {TEXT}',
        "Xmp.dc.subject": ", ".join(KEYWORDS),
    }
