"""The photographs of the HTML report: inside it, or beside it without a trace of earlier ones."""

import base64
import io
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from captionlens.outputs import EMBEDDED_AT_MOST
from captionlens.outputs.thumbnails import open_thumbnails
from helpers.report import NASTY_NAME, entries_of, made_caption, write_report

MANY = EMBEDDED_AT_MOST + 1


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_few_are_inside(tmp_path: Path) -> None:
    page = write_report(tmp_path / "report.html", [made_caption()], expected=EMBEDDED_AT_MOST)
    assert files_below(tmp_path) == ["report.html"]
    (entry,) = entries_of(page)
    kind, _, content = entry["image"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert image.size == (480, 360) == (entry["width"], entry["height"])


def test_many_lie_beside(tmp_path: Path) -> None:
    captions = [made_caption("a/../../../etc/passwd"), made_caption(NASTY_NAME), made_caption(NASTY_NAME)]
    page = write_report(tmp_path / "a report.html", captions, expected=MANY)
    addresses = [entry["image"] for entry in entries_of(page)]
    folder = r"a%20report_photographs/captionlens-thumbs-[0-9a-f]{16}"
    assert re.fullmatch(rf"(?P<at>{folder}/)000001.jpg (?P=at)000002.jpg (?P=at)000003.jpg", " ".join(addresses))
    assert files_below(tmp_path) == ["a report.html", *(address.replace("%20", " ") for address in addresses)]
    with Image.open(tmp_path / addresses[0].replace("%20", " ")) as image:
        assert image.size == (480, 360)


@pytest.mark.parametrize("name", [b"caf\xe9#?.html", b"a:b%41.html", b"<b>.html"])
def test_addresses_of_odd_reports(name: bytes, tmp_path: Path) -> None:
    """The folder's name is that of the report, and the address is a URL: no scheme, query or fragment in it."""
    report = tmp_path / os.fsdecode(name)
    try:
        report.touch()
    except OSError:
        pytest.skip("the file system has no such names")
    (entry,) = entries_of(write_report(report, [made_caption()], expected=MANY))
    assert re.fullmatch(r"(%[0-9A-F]{2}|[\w.-])+/captionlens-thumbs-\w+/000001\.jpg", entry["image"])


@pytest.mark.parametrize("expected", [0, MANY])
def test_photographs_of_earlier_reports_are_removed_and_nothing_else(tmp_path: Path, expected: int) -> None:
    report = tmp_path / "report.html"
    write_report(report, [made_caption()], expected=MANY)
    folder = tmp_path / "report_photographs"
    own = folder / "captionlens-thumbs-mine" / "dear.jpg"
    own.parent.mkdir()
    own.touch()
    page = write_report(report, [made_caption()] * 2, expected=expected)
    there = [entry["image"] for entry in entries_of(page)] if expected else []
    assert files_below(tmp_path) == sorted(["report.html", own.relative_to(tmp_path).as_posix(), *there])


def test_an_empty_folder_goes(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    write_report(report, [made_caption()], expected=MANY)
    write_report(report, [made_caption()])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_earlier_ones_stay_until_the_new_report_is_there(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    (entry,) = entries_of(write_report(report, [made_caption()], expected=MANY))
    with open_thumbnails(report, MANY) as thumbnails:
        address, _ = thumbnails.add(Image.new("RGB", (10, 10)))
        assert address != entry["image"]
        assert (tmp_path / entry["image"]).is_file()
    assert not (tmp_path / entry["image"]).exists()
    assert (tmp_path / address).is_file()


def test_nothing_lies_beside_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open_thumbnails(pipe, MANY) as thumbnails:
        assert thumbnails.policy == "data:"
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
