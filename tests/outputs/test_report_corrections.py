"""Corrections in the HTML report: kept by the browser, exported as a data set."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captionlens.datasets import read_dataset
from captionlens.runtime.photograph import Photograph
from helpers.cli import run_cli
from helpers.report import made_caption, write_report
from helpers.report_page import correct, entry, kinds, listening, names, various, visit

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The report of `various`."""
    write_report(tmp_path / "report.html", various(), model="m")
    with visit(browser, tmp_path / "report.html") as opened:
        yield opened


def test_corrections_are_kept_and_counted(browser: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    write_report(report, various())
    context = browser.new_context()
    page = context.new_page()
    with listening(page, report):
        assert not page.locator(".corrections").is_visible()
        correct(page, "top.jpg", "  a brown dog\n lies   down ")
        assert page.evaluate("document.activeElement.textContent") == "Correct"
        assert entry(page, "top.jpg").locator(".corrected b").inner_text() == "a brown dog lies down"
        assert entry(page, "top.jpg").locator("img").get_attribute("alt") == "a brown dog lies down"
        assert page.locator(".count").inner_text() == "1 caption corrected, kept in this browser"
        correct(page, "2024/Café.jpg", "a car")
        assert page.locator(".count").inner_text().startswith("2 captions corrected")
        page.reload()
        assert page.locator(".count").inner_text().startswith("2 captions corrected")
        kinds(page).select_option("Corrected (2)")
        assert names(page) == ["2024/Café.jpg", "top.jpg"]
        page.get_by_label("Search in captions and names").fill("brown")
        page.locator(".found:has-text('1 of 5')").wait_for()
        entry(page, "top.jpg").get_by_role("button", name="Undo").click()
        assert page.locator(".count").inner_text().startswith("1 caption corrected")
        assert entry(page, "top.jpg").locator("img").get_attribute("alt") == "a dog"
    other = tmp_path / "other.html"
    write_report(other, various())
    with listening(page, other):
        assert not page.locator(".corrections").is_visible()
    write_report(report, reversed(various()))  # another run over the same folder
    with listening(page, report):
        assert page.locator(".count").inner_text().startswith("1 caption corrected")
    context.close()


def test_what_is_no_correction(page: Any) -> None:
    correct(page, "top.jpg", "a dog")  # as it was
    correct(page, "top.jpg", "   ")
    found = entry(page, "top.jpg")
    found.get_by_role("button", name=re.compile("^Correct")).click()
    found.locator("textarea").fill("a hat")
    page.keyboard.press("Escape")
    assert found.locator("textarea").count() == 0
    assert not page.locator(".corrections").is_visible()
    correct(page, "2024/italy/b9.jpg", "two cats")  # the captioner was not sure: now somebody is
    assert page.locator(".count").inner_text().startswith("1 caption corrected")
    assert page.locator(".entry.failed button").count() == 0


def test_enter_saves_and_a_withheld_caption_is_not_given_away(page: Any) -> None:
    withheld = entry(page, "2024/Café.jpg")
    withheld.get_by_role("button", name=re.compile("^Correct")).click()
    assert withheld.locator("textarea").input_value() == ""
    page.keyboard.type("a red car")
    page.keyboard.press("Enter")
    assert withheld.locator(".corrected b").inner_text() == "a red car"


def test_what_is_being_written_survives_a_search(page: Any) -> None:
    found = entry(page, "top.jpg")
    found.get_by_role("button", name=re.compile("^Correct")).click()
    found.locator("textarea").fill("half a sen")
    search = page.get_by_label("Search in captions and names")
    search.fill("cats")
    page.locator(".found:has-text('1 of 5')").wait_for()
    search.fill("")
    page.locator(".found:text-is('5 photographs')").wait_for()
    assert found.locator("textarea").input_value() == "half a sen"


def test_two_windows_do_not_overwrite_each_other(browser: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    write_report(report, various())
    context = browser.new_context()
    one, two = context.new_page(), context.new_page()
    with listening(one, report), listening(two, report):
        correct(one, "top.jpg", "one")
        two.locator(".count:has-text('1 caption')").wait_for()
        correct(two, "2024/italy/b9.jpg", "two")
        one.locator(".count:has-text('2 captions')").wait_for()
        assert entry(one, "2024/italy/b9.jpg").locator(".corrected b").inner_text() == "two"
    context.close()


def test_a_browser_that_keeps_nothing_says_so(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", various())
    context = browser.new_context()
    opened = context.new_page()
    opened.add_init_script("Storage.prototype.setItem = () => { throw new DOMException('full'); }")
    with listening(opened, tmp_path / "report.html"):
        for name, count in (("top.jpg", "1 caption"), ("2024/italy/b9.jpg", "2 captions")):
            correct(opened, name, "a hat")
            told = opened.locator(".count").inner_text()
            assert told == f"{count} corrected, this browser keeps none: export before you close the page"
    context.close()


@pytest.mark.parametrize("stored", ["no JSON", "null", "[1]", '{"top.jpg": 7}'])
def test_what_others_left_in_the_browser_does_no_harm(browser: Any, tmp_path: Path, stored: str) -> None:
    write_report(tmp_path / "report.html", various())
    context = browser.new_context()
    opened = context.new_page()
    opened.add_init_script(f"Storage.prototype.getItem = () => {stored!r}")
    with listening(opened, tmp_path / "report.html"):
        assert len(names(opened)) == 5
        assert not opened.locator(".corrections").is_visible()
    context.close()


def test_photographs_without_a_name_are_not_corrected(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [made_caption("-"), made_caption("a/caf\udce9.jpg")])
    with visit(browser, tmp_path / "report.html") as page:
        assert page.get_by_role("button", name=re.compile("^Correct")).count() == 0
        assert ["stdin" in note for note in page.locator(".note").all_inner_texts()] == [True, False]


def test_exported_corrections_are_a_data_set(browser: Any, tmp_path: Path) -> None:
    """The table is read where it lies in the common folder, whatever names and captions hold."""
    wanted = {
        "plain.jpg": "a dog",
        'below/it\'s, "quoted".jpg': 'a sign that says "stop, now"',
        "below/=1+1.jpg": "=2",
        "日本/ünï.jpg": "ein Hünd — 犬",
        "line\nbreak.jpg": "a, b",
    }
    folder = tmp_path / "photographs"
    captions = []
    for name in wanted:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 30), 90).save(file)
        captions.append(made_caption(str(file), ("a", "hat"), photograph=Photograph(file)))
    write_report(tmp_path / "report.html", [*captions, made_caption(str(folder / "untouched.jpg")), captions[0]])
    with visit(browser, tmp_path / "report.html") as page:
        for number, text in enumerate(wanted.values()):
            found = page.locator(".entry").nth(number)
            found.get_by_role("button", name=re.compile("^Correct")).click()
            found.locator("textarea").fill(text)
            page.keyboard.press("Enter")
        with page.expect_download() as started:
            page.get_by_role("button", name="Export corrections").click()
        assert started.value.suggested_filename == "corrections.csv"
        started.value.save_as(folder / "corrections.csv")
    content = (folder / "corrections.csv").read_bytes()
    assert content.startswith(b"image,caption\r\nplain.jpg,a dog\r\n")
    assert b'"below/it\'s, ""quoted"".jpg","a sign that says ""stop, now"""\r\n' in content
    dataset = read_dataset(folder)
    read = {record.image.relative_to(folder).as_posix(): record.captions for record in dataset.records}
    assert read == {name: (text,) for name, text in wanted.items()}
    assert dataset.layout == "table"
    checked = run_cli("data", "check", folder / "corrections.csv")
    assert sum(map(int, re.findall(r"(\d+) captions", checked.output))) == len(wanted)
