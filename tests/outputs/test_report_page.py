"""The HTML report in Chromium: maps, search, order, doubt."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.drawing import heatmap
from captionlens.outputs import EMBEDDED_AT_MOST
from captionlens.outputs.formats import WITHHELD
from captionlens.runtime.caption import Caption
from captionlens.runtime.faithfulness import Faithfulness
from helpers.canvas import canvas_pixels
from helpers.report import NASTY, NASTY_NAME, failure, made_caption, write_report
from helpers.report_page import NOISE, correct, entry, kinds, listening, names, various, visit

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The report of `various`."""
    write_report(tmp_path / "report.html", various(), model="m")
    with visit(browser, tmp_path / "report.html") as opened:
        yield opened


@pytest.fixture
def sentence(browser: Any, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """What is told of a word of a caption."""
    context = browser.new_context()
    opened = context.new_page()

    def told(caption: Caption, word: int) -> str:
        path = tmp_path / "report.html"
        write_report(path, [caption], examined=True)
        with listening(opened, path):
            opened.locator(".word").nth(word).hover()
            return str(opened.locator(".told").inner_text())

    yield told
    context.close()


def shown(page: Any) -> list[str]:
    texts: list[str] = page.locator(".word.shown").all_inner_texts()
    return texts


# Words and maps.


def test_the_sentence_says_how_sure_and_where(sentence: Callable[..., str]) -> None:
    caption = made_caption(words=("a", "dog", "runs"))
    assert sentence(caption, 0) == "a · 99% sure · looked most at the upper left"
    assert sentence(caption, 2) == "runs · 5% sure · looked most at the lower middle"


def test_the_sentence_says_whether_the_word_depended_on_the_picture(sentence: Callable[..., str]) -> None:
    examined = [Faithfulness(0.99, 0.97, 0.98), Faithfulness(0.05, 0.01, 0.04)]
    caption = made_caption(faithfulness=examined)
    a = sentence(caption, 0).split(" · ")
    assert a[-2] == "probability 99%, 97% without what it looked at, 98% without as much elsewhere"
    assert a[-1] == "did not depend on the picture"
    dog = sentence(caption, 1)
    assert dog.endswith(" · probability 5%, 1% without what it looked at, 4% without as much elsewhere")


def test_words_that_did_not_depend_on_the_picture_are_marked(browser: Any, tmp_path: Path) -> None:
    examined = [Faithfulness(0.99, 0.97, 0.98), Faithfulness(0.05, 0.01, 0.04)]
    write_report(tmp_path / "report.html", [made_caption(faithfulness=examined)], examined=True)
    with visit(browser, tmp_path / "report.html") as page:
        classes = [word.get_attribute("class").split() for word in page.locator(".word").all()]
        assert classes == [["word", "p4", "unseen"], ["word", "p0"]]
        titles = [word.get_attribute("title") for word in page.locator(".word").all()]
        assert titles == ["did not depend on the picture", None]


def test_of_two_cells_almost_alike_the_stronger_is_named(sentence: Callable[..., str]) -> None:
    attention = np.full((1, 3, 4), 0.01, np.float32)
    attention[0, 0, 0], attention[0, 2, 3] = 0.4499, 0.4501
    told = sentence(made_caption(words=("a",), attention=attention), 0)
    assert told == "a · 99% sure · looked most at the lower right"


def test_the_browser_draws_the_map_that_the_overlay_draws(page: Any) -> None:
    page.locator(".word").nth(1).hover()
    assert shown(page) == ["dog"]
    page.locator(".entry").first.locator("canvas[data-drawn='1']").wait_for()
    drawn: NDArray[np.float32] = canvas_pixels(page.locator(".picture canvas").first).astype(np.float32)
    height, width = drawn.shape[:2]
    marked = heatmap.strength(made_caption().attention[1], (width, height))
    assert np.abs(drawn[..., :3] - heatmap.colours(marked)).max() < 8  # bytes a cell, premultiplied alpha
    faintest, strongest = heatmap.HEAT_OPACITY
    assert np.abs(drawn[..., 3] / 255 - (faintest + (strongest - faintest) * marked**2)).max() < 0.02
    page.mouse.move(0, 0)
    assert shown(page) == []


def test_keys_walk_through_the_words(page: Any) -> None:
    page.locator(".word").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert shown(page) == ["on"]
    assert page.locator(".told").first.inner_text().startswith("on · ")
    page.keyboard.press("End")
    assert shown(page) == ["grass"]
    page.keyboard.press("Home")
    assert shown(page) == ["a"]
    page.keyboard.press("Tab")  # one stop a caption: on to the button
    assert page.evaluate("document.activeElement.className") == "play"
    assert shown(page) == []


def test_the_keyboard_reaches_everything_in_order(page: Any) -> None:
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.name || document.activeElement.textContent"))
    assert reached == ["text", "order", "kind", "folder", "a", "Play", "Correct", "two", "Play"]


def test_a_tap_holds_a_word_and_escape_lets_go(page: Any) -> None:
    word = page.locator(".word").nth(2)
    word.click()
    page.mouse.move(0, 0)
    assert shown(page) == ["on"]
    assert word.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert shown(page) == []


def test_play_walks_through_the_words_and_stops(page: Any) -> None:
    page.clock.install()
    play = page.locator(".play").first
    play.click()
    seen: list[str] = []
    for _ in range(4):
        seen += shown(page)
        page.clock.run_for(900)
    assert seen == ["a", "dog", "on", "grass"]
    assert shown(page) == []
    assert play.inner_text() == "Play"


# What is listed.


def test_names_are_paths_in_the_common_folder(page: Any) -> None:
    assert names(page) == ["2024/italy/b10.jpg", "2024/italy/b9.jpg", "2024/Café.jpg", "2024/broken.jpg", "top.jpg"]
    assert page.locator(".found").inner_text() == "5 photographs"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("Least sure first", ["Café", "b9", "top", "b10", "broken"]),
        ("Surest first", ["b10", "top", "b9", "Café", "broken"]),
        ("By name", ["broken", "Café", "b9", "b10", "top"]),
        ("As captioned", ["b10", "b9", "Café", "broken", "top"]),
    ],
)
def test_order(page: Any, order: str, expected: Sequence[str]) -> None:
    page.get_by_label("Order").select_option(order)
    assert [Path(name).stem for name in names(page)] == expected


def test_without_calibration_words_tell_how_sure(browser: Any, tmp_path: Path) -> None:
    captions = [made_caption("one.jpg", ("a",)), made_caption("two.jpg", ("a", "dog"))]  # 99 %; 99 and 5
    write_report(tmp_path / "report.html", captions)
    with visit(browser, tmp_path / "report.html") as page:
        assert page.locator(".sure").count() == 0
        page.get_by_label("Order").select_option("Least sure first")
        assert names(page) == ["two.jpg", "one.jpg"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", ["b10", "top"]),
        ("DOG italy", ["b10"]),
        ("cafe", ["Café"]),
        ("broken", ["broken"]),
        ("yellow", []),  # of a withheld caption
        ("  ", ["b10", "b9", "Café", "broken", "top"]),
    ],
)
def test_search(page: Any, text: str, expected: Sequence[str]) -> None:
    page.get_by_label("Search in captions and names").fill(text)
    count = "5" if len(expected) == 5 else f"{len(expected)} of 5"
    page.locator(f".found:text-is('{count} photographs')").wait_for()
    assert [Path(name).stem for name in names(page)] == expected


def test_keywords_are_shown_and_found(browser: Any, tmp_path: Path) -> None:
    captions = [
        made_caption("men.jpg", ("two", "men", "play"), keywords=("man", NASTY)),
        made_caption("play.jpg", ("a", "play"), keywords=()),
        made_caption("dog.jpg", ("a", "dog")),
        failure("broken.jpg", "is empty"),
    ]
    write_report(tmp_path / "report.html", captions)
    with visit(browser, tmp_path / "report.html") as page:
        assert page.locator(".entry .note").all_inner_texts() == [f"Keywords: man, {NASTY}"]
        page.get_by_label("Search in captions and names").fill("play man")
        page.locator(".found:text-is('1 of 4 photographs')").wait_for()
        assert names(page) == ["men.jpg"]


def test_the_first_click_after_a_search_is_not_lost(page: Any) -> None:
    page.get_by_label("Search in captions and names").fill("top")
    page.locator(".found:has-text('1 of 5')").wait_for()
    page.locator(".word").nth(1).click()
    assert page.locator(".word[aria-pressed=true]").all_inner_texts() == ["dog"]
    page.get_by_label("Search in captions and names").fill("b9")
    page.keyboard.press("Enter")  # at once
    assert names(page) == ["2024/italy/b9.jpg"]


def test_folders(page: Any) -> None:
    select = page.get_by_label("Folder")
    options = select.locator("option").all_inner_texts()
    assert options == ["All (5)", "In no folder (1)", "2024 (4)", "2024/italy (2)"]
    select.select_option("2024/italy (2)")
    assert names(page) == ["2024/italy/b10.jpg", "2024/italy/b9.jpg"]
    select.select_option("2024 (4)")
    assert len(names(page)) == 4
    select.select_option("In no folder (1)")
    assert names(page) == ["top.jpg"]


def test_kinds(page: Any) -> None:
    select = kinds(page)
    assert select.locator("option").all_inner_texts() == ["All (5)", "Not sure (1)", "Withheld (1)", "Failed (1)"]
    select.select_option("Failed (1)")
    assert names(page) == ["2024/broken.jpg"]
    assert page.locator(".entry .error").inner_text() == "p/2024/broken.jpg: is empty"
    select.select_option("Not sure (1)")
    assert page.locator(".entry .doubt").inner_text().startswith("not sure: ")
    assert page.locator(".entry img").get_attribute("alt") == "not sure: two cats"


def test_a_withheld_caption_is_shown_only_when_it_is_asked_for(page: Any) -> None:
    withheld = entry(page, "2024/Café.jpg")
    assert withheld.locator(".doubt").inner_text() == WITHHELD
    assert withheld.locator(".sure").inner_text() == "10% sure"
    assert withheld.locator("img").get_attribute("alt") == WITHHELD
    assert "yellow" not in page.locator("main").inner_html()
    withheld.get_by_role("button", name="Show the withheld caption").click()
    assert withheld.locator(".word").all_inner_texts() == ["a", "yellow", "car"]
    assert page.evaluate("document.activeElement.textContent") == "a"
    page.keyboard.press("ArrowRight")
    assert shown(page) == ["yellow"]


def test_one_photograph_has_nothing_to_choose_from(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [made_caption()])
    with visit(browser, tmp_path / "report.html") as page:
        assert not page.locator(".selection").is_visible()
        assert page.locator(".found").inner_text() == "1 photograph"


def test_the_list_grows(browser: Any, tmp_path: Path) -> None:
    captions = (made_caption(f"{number:03d}.jpg", ("a", "dog")) for number in range(100))
    write_report(tmp_path / "report.html", captions)
    with visit(browser, tmp_path / "report.html", viewport={"width": 800, "height": 400}) as page:
        begun = page.locator(".entry").count()
        assert 30 <= begun < 100
        page.keyboard.press("End")
        page.wait_for_function("(before) => document.querySelectorAll('.entry').length > before", arg=begun)
        while page.locator(".more").is_visible():
            before = page.locator(".entry").count()
            page.locator(".more").evaluate("(more) => more.click()")
            assert page.locator(".entry").count() > before
        assert names(page) == [f"{number:03d}.jpg" for number in range(100)]


def test_many_photographs_lie_beside_and_are_loaded_when_they_are_near(browser: Any, tmp_path: Path) -> None:
    count = EMBEDDED_AT_MOST + 1
    report = tmp_path / 'r & "é" 100%25.html'
    write_report(report, (made_caption(f"{number:03d}.jpg", image=NOISE) for number in range(count)), expected=count)
    with visit(browser, report) as page:
        page.wait_for_function("document.querySelector('.entry img').naturalWidth === 400")
        images = page.locator("main img")
        assert 30 <= images.count() < count
        assert set(images.evaluate_all("(images) => images.map(({ loading }) => loading)")) == {"lazy"}
        page.locator(".word").first.hover()
        page.locator(".entry").first.locator("canvas[data-drawn='0']").wait_for()


def test_nothing_moves_when_a_photograph_is_loaded(browser: Any, tmp_path: Path) -> None:
    sizes = ((480, 360), (100, 480), (480, 40), (20, 10))
    captions = [made_caption(f"{w}.jpg", image=Image.new("RGB", (w, h))) for w, h in sizes]
    report = tmp_path / "report.html"
    write_report(report, captions, expected=EMBEDDED_AT_MOST + 1)
    measure = (
        "(all) => all.map((one) => { const { width, height } = one.getBoundingClientRect(); return [width, height]; })"
    )
    with visit(browser, report, viewport={"width": 320, "height": 2000}) as page:
        images = page.locator("main img")
        page.wait_for_function("[...document.images].every((image) => image.naturalWidth)")
        loaded = images.evaluate_all(measure)
    for file in tmp_path.glob("report_photographs/*/*.jpg"):
        file.unlink()
    context = browser.new_context(viewport={"width": 320, "height": 2000})
    page = context.new_page()
    page.route("**/*.jpg", lambda _: None)  # never answered
    page.goto(report.as_uri(), wait_until="commit")
    page.locator(".entry").nth(3).wait_for()
    assert np.allclose(page.locator("main img").evaluate_all(measure), loaded, atol=1)
    for (width, height), (shown_width, shown_height) in zip(sizes, loaded, strict=True):
        assert shown_width / shown_height == pytest.approx(width / height, rel=0.05)
    context.close()


def test_nobody_can_write_into_the_page(browser: Any, tmp_path: Path) -> None:
    captions = [
        made_caption(f"{NASTY_NAME}/{NASTY_NAME}", (NASTY, "dog"), NOISE, unsure=True, confidence=0.1),
        made_caption(f"</script>/{NASTY_NAME}", (NASTY,), NOISE, withheld=True),
        made_caption("__proto__", ("a",), NOISE),
        failure(NASTY_NAME, NASTY),
    ]
    write_report(tmp_path / "report.html", captions, title=NASTY, model=NASTY, decoding=NASTY)
    with visit(browser, tmp_path / "report.html") as page:
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        assert page.locator("h1").inner_text() == NASTY
        assert names(page)[0] == f"{NASTY_NAME}/{NASTY_NAME}"
        assert page.locator(".word").first.inner_text() == NASTY
        page.get_by_role("button", name="Show the withheld caption").click()
        page.get_by_label("Folder").select_option(index=1)
        page.get_by_label("Folder").select_option(index=0)
        correct(page, "__proto__", NASTY)
        assert page.locator(".corrected b:visible").inner_text() == NASTY
        page.get_by_label("Search in captions and names").fill(NASTY)
        page.locator(".found:has-text(' of 4')").wait_for()
        assert page.locator("main img").count() == len(names(page)) > 1
        assert page.locator("script").count() == 3


PHONE = {"viewport": {"width": 320, "height": 700}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_nobody_is_kept_out(
    browser: Any, tmp_path: Path, violations: Callable[[Any], list[str]], scheme: str, phone: bool
) -> None:
    long = made_caption("p/" + "very-" * 30 + "long.jpg", ("pneumonoultramicroscopicsilicovolcanoconiosis",) * 2, NOISE)
    write_report(tmp_path / "report.html", [*various(), long], title=NASTY)
    options: dict[str, Any] = {"color_scheme": scheme} | (PHONE if phone else {})
    with visit(browser, tmp_path / "report.html", **options) as page:
        assert violations(page) == []
        correct(page, "top.jpg", "a brown dog")
        page.get_by_role("button", name="Show the withheld caption").click()
        entry(page, "2024/italy/b9.jpg").get_by_role("button", name=re.compile("^Correct")).click()
        word = page.locator(".word").nth(1)
        (word.tap if phone else word.click)()
        page.wait_for_timeout(250)  # axe would meet colours between two states
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
