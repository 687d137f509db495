"""The HTML report as a file: safe whatever things are called, and complete or not there."""

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captionlens.outputs import EMBEDDED_AT_MOST
from captionlens.outputs.formats import WITHHELD
from captionlens.outputs.html_report import open_report, relative_names
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.faithfulness import Faithfulness
from captionlens.runtime.photograph import Photograph
from helpers.report import (
    NASTY,
    NASTY_NAME,
    Elements,
    entries_of,
    failure,
    identity_of,
    made_caption,
    write_report,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.html"


def test_everything_from_outside_is_text(path: Path) -> None:
    nasty = made_caption(f"folder/{NASTY_NAME}", (NASTY, "dog"))
    captions = [nasty, failure(NASTY_NAME, NASTY)]
    page = write_report(path, captions, title=NASTY, model=NASTY, decoding=NASTY)
    elements = Elements(page)
    assert [script.get("type") for script in elements.all("script")] == ["application/json"] * 2 + ["module"]
    assert "alert" not in elements.inside["script"]
    assert elements.all("img") == []
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert not any("style" in attributes for _, attributes in elements.found)
    assert elements.text.count(NASTY) == 4  # title and h1, model, decoding
    for data in ("entries", "names"):
        assert "<" not in elements.inside[data]
    first, second = entries_of(page)
    assert (first["path"], first["words"]) == (f"folder/{NASTY_NAME}", [NASTY, "dog"])
    assert second == {"path": NASTY_NAME, "error": NASTY}


@pytest.mark.parametrize(("expected", "pictures"), [(EMBEDDED_AT_MOST, "data:"), (EMBEDDED_AT_MOST + 1, "'self'")])
def test_the_policy_allows_exactly_the_script_and_style_in_the_file(path: Path, expected: int, pictures: str) -> None:
    page = write_report(path, [made_caption()], expected=expected)
    elements = Elements(page)
    policy = next(a["content"] for a in elements.all("meta") if "http-equiv" in a)
    digests = {
        kind: base64.b64encode(hashlib.sha256(elements.inside[kind].encode()).digest()).decode()
        for kind in ("script", "style")
    }
    assert policy == (
        f"default-src 'none'; img-src {pictures}; script-src 'sha256-{digests['script']}'; "
        f"style-src 'sha256-{digests['style']}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"https?:|//[a-z]+\.", page.replace("base64,", ""), re.IGNORECASE)


def test_parts_are_not_filled_twice(path: Path) -> None:
    page = write_report(path, [made_caption("folder/{script}")], title="{style}", model="{key}")
    assert Elements(page).text.count("{style}") == 2
    assert "<span>{key}</span>" in page
    assert entries_of(page)[0]["path"] == "{script}"


def test_the_key_explains_what_is_there(path: Path) -> None:
    examined = [Faithfulness(0.99, 0.97, 0.98), Faithfulness(0.05, 0.01, 0.04)]
    page = write_report(path, [made_caption(faithfulness=examined)], examined=True)
    assert "Grey and dotted: did not depend on the picture." in Elements(page).text
    assert "did not depend" not in Elements(write_report(path, [made_caption()])).text


def test_odd_captions(path: Path) -> None:
    wordless = Caption("", path="plain.jpg", photograph=Photograph(Image.new("L", (10, 10))))
    wide = Photograph(Image.new("RGBA", (2000, 10)))
    zeros = Caption(
        "a", words=(Word("a", 1.0),), attention=np.zeros((1, 2, 2), np.float32), path="z.jpg", photograph=wide
    )
    failed = failure("gone.jpg", "gone.jpg: no such file")
    page = write_report(path, iter([wordless, zeros, failed, made_caption("caf\udce9.jpg"), made_caption("-")]))
    first, second, third, fourth, fifth = entries_of(page)
    assert (first["words"], first["maps"]) == ([], "")
    assert (second["width"], second["height"], second["peaks"]) == (480, 2, [0])
    assert third == {"path": "gone.jpg", "error": "gone.jpg: no such file"}
    assert fourth["path"] == "caf?.jpg"
    assert "not UTF-8" in fourth["nameless"]
    assert fifth["path"] == "-"
    assert "from stdin" in fifth["nameless"]
    assert "4 photographs with captions; 1 could not be read." in Elements(page).text


def test_what_is_not_shown_says_why(path: Path, tmp_path: Path) -> None:
    """A caption that is withheld, and photographs that are gone or were never known."""
    withheld = made_caption("a/unsure.jpg", ("a", "cat"), withheld=True, unsure=True, confidence=0.1234)
    gone = made_caption("a/gone.jpg", ("a", "hat"), photograph=Photograph(tmp_path / "gone.jpg"))
    unknown = made_caption("a/unknown.jpg", ("a", "mat"), photograph=None)
    page = write_report(path, [withheld, gone, unknown, made_caption("a/photo.jpg")])
    first, second, third, _ = entries_of(page)
    assert (first["withheld"], first["doubt"], first["confidence"]) == (True, WITHHELD, 0.1234)
    assert "hedged" not in first
    assert second == {"path": "gone.jpg", "error": f"{tmp_path / 'gone.jpg'}: no such file"}
    assert third == {"path": "unknown.jpg", "error": "this caption does not know its photograph"}
    assert "2 photographs with captions, 1 of them withheld; 2 could not be read." in Elements(page).text
    for word in ("hat", "mat"):
        assert f'"{word}"' not in page


@pytest.mark.parametrize(
    ("paths", "common", "names"),
    [
        (["a/b/one.jpg"], "a/b", [("", "one.jpg")]),
        (["a/b/one.jpg", "a/two.jpg"], "a", [("b", "one.jpg"), ("", "two.jpg")]),
        (["a/b/c/1.jpg", "./a/x/../b/d/1.jpg"], "a/b", [("c", "1.jpg"), ("d", "1.jpg")]),
        (["ab/1.jpg", "ac/1.jpg"], ".", [("ab", "1.jpg"), ("ac", "1.jpg")]),
        (["-", "a/1.jpg", None], "a", [("", "-"), ("", "1.jpg"), ("", "-")]),
    ],
)
def test_names_are_relative_to_the_common_folder(
    paths: list[str | None], common: str, names: list[tuple[str, str]]
) -> None:
    assert relative_names(paths) == (os.path.normpath(Path.cwd() / common), names)


def test_without_paths_there_is_no_common_folder() -> None:
    assert relative_names([None, "-"]) == ("", [("", "-"), ("", "-")])
    assert relative_names([]) == ("", [])


def test_the_identity_is_that_of_report_and_folder(tmp_path: Path) -> None:
    """What is corrected in a report stays when it is written anew, whatever the captions."""

    def identity(name: str, photograph: str, *words: str) -> str:
        return identity_of(write_report(tmp_path / name, [made_caption(photograph, words)]))

    first = identity("report.html", "folder/one.jpg", "a", "dog")
    assert identity("report.html", "folder/two.jpg", "a", "cat") == first
    assert identity("other.html", "folder/one.jpg", "a", "dog") != first
    assert identity("report.html", "other/one.jpg", "a", "dog") != first


def test_an_empty_report_is_a_report(path: Path) -> None:
    page = write_report(path, [])
    assert "0 photographs with captions." in Elements(page).text
    assert entries_of(page) == []


def test_words_without_maps_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_report(path, [Caption("a", words=(Word("a", 1.0),), photograph=Photograph(Image.new("RGB", (4, 4))))])


def test_writing_streams(path: Path, tmp_path: Path) -> None:
    alive: list[int] = []

    def captions() -> Iterator[Caption]:
        for number in range(3):
            alive.append(next(tmp_path.iterdir()).stat().st_size)  # the file under construction
            yield made_caption(f"{number}.jpg", image=Image.effect_noise((480, 480), 90))

    page = write_report(path, captions(), model="m")
    assert alive[0] < alive[2] - 10_000  # the first entry was on its way before the third was asked for
    assert [entry["path"] for entry in entries_of(page)] == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize("expected", [0, EMBEDDED_AT_MOST + 1])
def test_no_report_is_left_when_an_entry_fails(path: Path, expected: int) -> None:
    with pytest.raises(RuntimeError), open_report(path, expected=expected) as report:
        report.write(made_caption())
        raise RuntimeError("stop")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("expected", [0, EMBEDDED_AT_MOST + 1])
def test_an_earlier_report_stays_when_an_entry_fails(path: Path, expected: int) -> None:
    write_report(path, [made_caption()], expected=expected)
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    with pytest.raises(RuntimeError), open_report(path, expected=EMBEDDED_AT_MOST + 1) as report:
        report.write(replace(made_caption(), path="other.jpg"))
        raise RuntimeError("stop")
    assert {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()} == before
