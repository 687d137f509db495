"""The HTML report: self-contained, safe whatever things are called, and alive in a browser."""

import base64
import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.drawing import heatmap
from captionlens.errors import CaptionlensError
from captionlens.outputs.formats import WITHHELD
from captionlens.outputs.html_report import open_report
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.faithfulness import Faithfulness
from captionlens.runtime.photograph import Photograph

NASTY_NAME = "<img src=x onerror=alert(3)>\"'&.jpg"  # a path would end at a slash
NASTY = "<img src=x onerror=alert(1)>\"'&</script><script>alert(2)</script>.jpg"


def caption(
    name: str = "photo.jpg",
    words: Sequence[str] = ("a", "dog"),
    image: Image.Image | None = None,
    faithfulness: Sequence[Faithfulness] | None = None,
) -> Caption:
    attention = np.full((len(words), 3, 4), 0.1 / 11, np.float32)
    for number in range(len(words)):
        attention[number].flat[5 * number % 12] = 0.9
    examined: Sequence[Faithfulness | None] = faithfulness or [None] * len(words)
    probabilities = np.linspace(0.99, 0.05, len(words))
    return Caption(
        " ".join(words),
        words=tuple(
            Word(text, probability, faithfulness=found)
            for text, probability, found in zip(words, probabilities, examined, strict=True)
        ),
        attention=attention,
        path=f"folder/{name}",
        photograph=Photograph(image or Image.new("RGB", (600, 450), (80, 120, 90))),
    )


def write_report(path: Path, captions: Iterable[Caption], **about: Any) -> None:
    with open_report(path, **about) as report:
        for one in captions:
            report.write(one)


def html_report(captions: Iterable[Caption], **about: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        write_report(path, captions, **about)
        return path.read_text("utf-8")


def failure(name: str, message: str) -> Caption:
    return Caption("", path=name, error=CaptionlensError(message))


class Elements(HTMLParser):
    """Every element with its attributes, and the text inside scripts, styles and the rest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.inside = {"script": "", "style": ""}
        self._open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.inside:
            self.inside[self._open[-1]] += data
        else:
            self.text += data

    def all(self, tag: str, css: str | None = None) -> list[dict[str, str]]:
        wanted = [attributes for found, attributes in self.found if found == tag]
        return [a for a in wanted if css is None or css in a.get("class", "").split()]


def test_everything_from_outside_is_text() -> None:
    nasty = caption(NASTY_NAME, (NASTY, "dog"))
    failed = failure(NASTY_NAME, NASTY)
    elements = Elements(html_report([nasty, failed], title=NASTY, model=NASTY, decoding=NASTY))
    assert len(elements.all("script")) == 1
    assert "alert" not in elements.inside["script"]
    assert [a["src"][:22] for a in elements.all("img")] == ["data:image/jpeg;base64"]
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert not any("style" in attributes for _, attributes in elements.found)
    # title and h1, model, decoding; word; message of the failure
    assert elements.text.count(NASTY) == 6
    assert elements.text.count(NASTY_NAME) == 2
    assert elements.all("img")[0]["alt"] == f"{NASTY} dog"


def test_the_policy_allows_exactly_the_script_and_style_in_the_file() -> None:
    text = html_report([caption()])
    elements = Elements(text)
    policy = next(a["content"] for a in elements.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(elements.inside[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not re.search(r"https?:|//[a-z]+\.", text.replace("base64,", ""), re.IGNORECASE)


def test_maps_travel_as_bytes() -> None:
    one = caption(words=("a", "dog", "runs"))
    elements = Elements(html_report([one]))
    buttons = elements.all("button", "word")
    (toolbar,) = elements.all("div", "caption")
    assert (toolbar["data-rows"], toolbar["data-columns"]) == ("3", "4")
    for button, map_ in zip(buttons, one.attention, strict=True):
        cells = np.frombuffer(base64.b64decode(button["data-map"]), np.uint8).reshape(3, 4)
        decoded = cells / 255 * float(button["data-peak"]) / 12
        assert np.abs(decoded - map_).max() < 0.9 / 255
    assert [button["class"] for button in buttons] == ["word p4", "word p2", "word p0"]


def test_words_that_did_not_depend_on_the_picture_are_marked() -> None:
    examined = [Faithfulness(0.99, 0.97, 0.98), Faithfulness(0.05, 0.01, 0.04)]
    elements = Elements(html_report([caption(faithfulness=examined)], examined=True))
    a, dog = elements.all("button", "word")
    assert a["class"].split() == ["word", "p4", "unseen"]
    assert a["title"] == "did not depend on the picture"
    assert dog["class"].split() == ["word", "p0"]
    assert "title" not in dog
    assert "Grey and dotted: did not depend on the picture." in elements.text
    plain = html_report([caption()]).partition("<script")[0]
    assert "did not depend" not in plain
    assert "without what" not in plain


def test_odd_captions() -> None:
    wordless = Caption("", path="plain.jpg", photograph=Photograph(Image.new("L", (10, 10))))
    wide = Photograph(Image.new("RGBA", (2000, 10)))
    zeros = Caption(
        "a", words=(Word("a", 1.0),), attention=np.zeros((1, 2, 2), np.float32), path="z.jpg", photograph=wide
    )
    failed = failure("gone.jpg", "gone.jpg: no such file")
    undecodable = caption("caf\udce9.jpg")
    text = html_report(iter([wordless, zeros, failed, undecodable]))
    text.encode()
    elements = Elements(text)
    assert "The caption has no words." in elements.text
    assert "gone.jpg: no such file" in elements.text
    assert "caf?.jpg" in elements.text
    assert "3 photographs with captions; 1 could not be read." in elements.text
    assert [(a["width"], a["height"]) for a in elements.all("img")][1] == ("480", "2")


def test_captions_that_are_not_shown_say_why(tmp_path: Path) -> None:
    """One that is withheld, and photographs that are gone or were never known."""
    withheld = replace(caption("unsure.jpg", ("a", "cat")), withheld=True)
    gone = replace(caption("gone.jpg", ("a", "hat")), photograph=Photograph(tmp_path / "gone.jpg"))
    unknown = replace(caption("unknown.jpg", ("a", "mat")), photograph=None)
    text = html_report([withheld, gone, unknown, caption()])
    elements = Elements(text)
    assert WITHHELD in elements.text
    assert f"{tmp_path / 'gone.jpg'}: no such file" in elements.text
    assert "this caption does not know its photograph" in elements.text
    assert "1 photograph with captions; 3 could not be read." in elements.text
    for name in ("unsure.jpg", "gone.jpg", "unknown.jpg"):
        assert name in elements.text
    for word in ("cat", "hat", "mat"):
        assert f">{word}<" not in text


def test_a_photograph_is_named_by_the_last_part_of_its_path() -> None:
    named = [replace(caption(), path=path) for path in ("a/b/one.jpg", "two.jpg", "-", None)]
    names = re.findall(r'class="name" id="n\d">([^<]*)<', html_report(named))
    assert names == ["one.jpg", "two.jpg", "-", "-"]


def test_an_empty_report_is_a_report() -> None:
    assert "0 photographs with captions." in Elements(html_report([])).text


def test_words_without_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        html_report([Caption("a", words=(Word("a", 1.0),), photograph=Photograph(Image.new("RGB", (4, 4))))])


def test_writing_streams_and_equals_the_text(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    alive: list[int] = []

    def captions() -> Iterator[Caption]:
        for number in range(3):
            alive.append(next(tmp_path.iterdir()).stat().st_size)  # the file under construction
            yield caption(f"{number}.jpg", image=Image.effect_noise((480, 480), 90))

    write_report(path, captions(), model="m")
    assert alive[0] < alive[2] - 10_000  # the first entry was on its way before the third was asked for
    assert re.findall(r"\d\.jpg", Elements(path.read_text("utf-8")).text) == ["0.jpg", "1.jpg", "2.jpg"]


def test_no_report_is_left_when_an_entry_fails(tmp_path: Path) -> None:
    def captions() -> Iterator[Caption]:
        yield caption()
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_report(tmp_path / "report.html", captions())
    assert list(tmp_path.iterdir()) == []


@contextmanager
def visit(browser: Any, path: Path) -> Iterator[Any]:
    opened = browser.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(path.as_uri())
    yield opened
    opened.close()
    assert complaints == []  # neither errors nor violations of the policy


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    words = ("a", "dog", "on", "grass")
    photograph = Image.effect_noise((400, 300), 60).convert("RGB")
    captions = [caption(NASTY_NAME, words, photograph), failure(NASTY_NAME, "no"), caption("b", ("cat",))]
    write_report(tmp_path / "report.html", captions, title=NASTY, model="m")
    with visit(browser, tmp_path / "report.html") as opened:
        yield opened


def shown(page: Any) -> list[str]:
    texts: list[str] = page.locator(".word.shown").all_inner_texts()
    return texts


def canvas(page: Any) -> NDArray[np.int64]:
    """RGBA (height, width, 4) of the first entry's canvas."""
    script = """() => { const c = document.querySelector('.picture canvas');
        return [c.width, c.height, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]; }"""
    width, height, values = page.evaluate(script)
    return np.array(values).reshape(height, width, 4)


def told(page: Any, number: int) -> str:
    """What is told of a word of the first entry."""
    page.locator(".word").nth(number).hover()
    sentence: str = page.locator(".told").first.inner_text()
    return sentence


def test_the_sentence_says_how_sure_and_where(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", [caption(words=("a", "dog", "runs"))])
    with visit(browser, tmp_path / "report.html") as page:
        assert told(page, 0) == "a · 99% sure · looked most at the upper left"
        assert told(page, 2) == "runs · 5% sure · looked most at the lower middle"


def test_the_sentence_says_whether_the_word_depended_on_the_picture(browser: Any, tmp_path: Path) -> None:
    examined = [Faithfulness(0.99, 0.97, 0.98), Faithfulness(0.05, 0.01, 0.04)]
    write_report(tmp_path / "report.html", [caption(faithfulness=examined)], examined=True)
    with visit(browser, tmp_path / "report.html") as page:
        a = told(page, 0).split(" · ")
        assert a[-2] == "probability 99%, 97% without what it looked at, 98% without as much elsewhere"
        assert a[-1] == "did not depend on the picture"
        dog = told(page, 1)
        assert dog.endswith(" · probability 5%, 1% without what it looked at, 4% without as much elsewhere")


def test_of_two_cells_almost_alike_the_stronger_is_named(browser: Any, tmp_path: Path) -> None:
    attention = np.full((1, 3, 4), 0.01, np.float32)
    attention[0, 0, 0], attention[0, 2, 3] = 0.4499, 0.4501
    one = replace(caption(words=("a",)), attention=attention)
    write_report(tmp_path / "report.html", [one])
    with visit(browser, tmp_path / "report.html") as page:
        assert told(page, 0) == "a · 99% sure · looked most at the lower right"


def test_the_browser_draws_the_map_that_the_overlay_draws(page: Any) -> None:
    word = page.locator(".word").nth(1)
    word.hover()
    assert shown(page) == ["dog"]
    drawn = canvas(page)
    height, width = drawn.shape[:2]
    marked = heatmap.strength(caption().attention[1], (width, height))
    assert np.abs(drawn[..., :3] - heatmap.colours(marked)).max() < 8  # bytes a cell, premultiplied alpha
    faintest, strongest = heatmap.HEAT_OPACITY
    assert np.abs(drawn[..., 3] / 255 - (faintest + (strongest - faintest) * marked**2)).max() < 0.02
    page.mouse.move(0, 0)
    assert shown(page) == []


def test_keys_walk_through_the_words(page: Any) -> None:
    page.keyboard.press("Tab")
    assert shown(page) == ["a"]
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
