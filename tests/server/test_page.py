"""The page of `captionlens serve`, as people use it: in Chromium, against a real service.

With CAPTIONLENS_SCREENSHOTS=FOLDER the pictures that the docs show are written there (`make screenshots`).
"""

import base64
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from captionlens.drawing import heatmap
from captionlens.geometry.region import Region
from captionlens.runtime.captioner import Captioner
from helpers.canvas import canvas_pixels
from helpers.paths import REPOSITORY

pytest.importorskip("fastapi", reason="needs the extra serve")
from helpers.server import RunningServer, start_server

pytestmark = pytest.mark.slow

PHOTOGRAPHS = sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))
PHOTOGRAPHER = next(path for path in PHOTOGRAPHS if path.stem == "photographer")
NASTY = "<img src=x onerror=alert(1)>\"'&.jpg"
SCREENSHOTS = os.environ.get("CAPTIONLENS_SCREENSHOTS")
SHOWN = ("serve-page", "serve-box", "serve-wide-dark", "serve-phone-dark")  # in the docs
PATIENCE = 60_000  # milliseconds

# Files as they come from a file manager or another program.
TRANSFER = """([kind, files]) => {
    const data = new DataTransfer();
    for (const [name, content, type] of files)
        data.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], name, { type }));
    const event = kind === "drop"
        ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
}"""


@contextmanager
def visit(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """A page in a context of its own. It may complain of nothing but refused requests, and ask nobody else."""
    context = browser.new_context(**({"locale": "en-GB", "viewport": {"width": 1100, "height": 900}} | options))
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("console", lambda message: complaints.extend([message.text] * (message.type == "error")))
    ours = (url, "blob:", "data:")
    page.on("request", lambda request: complaints.extend([request.url] * (not request.url.startswith(ours))))
    page.goto(url)
    yield page
    # Chromium itself reports answers such as 422 and 503 as errors.
    assert [told for told in complaints if "the server responded with a status of" not in told] == []
    context.close()


@pytest.fixture
def page(browser: Any, server: RunningServer) -> Iterator[Any]:
    with visit(browser, server.url) as opened:
        yield opened


def hand_over(page: Any, *files: tuple[str, bytes], kind: str = "drop", type: str = "image/jpeg") -> None:
    page.evaluate(TRANSFER, [kind, [[name, base64.b64encode(content).decode(), type] for name, content in files]])


def captioned(page: Any, count: int = 1) -> Any:
    """The entry on top, once `count` entries are done."""
    page.locator(f".entry >> nth={count - 1}").wait_for(state="attached")
    for number in range(count):
        page.locator(f".entry:nth-of-type({number + 1})[data-state=done]").wait_for(state="attached")
    return page.locator(".entry").first


def sentence(entry: Any) -> str:
    return " ".join(entry.locator(".word").all_text_contents())


def shown(entry: Any, index: int) -> NDArray[np.uint8]:
    """RGBA of the map over the photograph (height, width, 4), once it is that of a word."""
    canvas = entry.locator(f"canvas.map[data-drawn='{index}']")
    canvas.wait_for(state="attached")
    return canvas_pixels(canvas)


def screenshot(page: Any, name: str, tmp_path: Path, **options: Any) -> Image.Image:
    folder = Path(SCREENSHOTS) if SCREENSHOTS and name in SHOWN else tmp_path
    page.screenshot(path=folder / f"{name}.png", **options)
    return Image.open(folder / f"{name}.png").convert("RGB")


def test_a_dropped_photograph_gets_its_caption_and_every_word_its_map(
    page: Any, server: RunningServer, tmp_path: Path
) -> None:
    answer = server.caption(PHOTOGRAPHER.read_bytes(), "?attention=true").json
    hand_over(page, (PHOTOGRAPHER.name, PHOTOGRAPHER.read_bytes()))
    entry = captioned(page)
    assert sentence(entry) == answer["caption"]
    assert entry.locator(".picture img").get_attribute("alt") == answer["caption"]
    entry.locator(".checked", has_text="depend").wait_for()
    photograph = entry.locator(".picture")
    seen = [photograph.screenshot()]
    for index, word in enumerate(answer["words"]):
        entry.locator(".word").nth(index).hover()
        pixels = shown(entry, index).astype(int)
        height, width = pixels.shape[:2]
        told = entry.locator(".told").text_content()
        assert told.startswith(f"{word['text']} · {word['confidence']:.0%} sure")
        # What is drawn is what heatmap.py draws of the map that the service gave.
        strength = heatmap.strength(np.array(word["attention"], np.float32), (width, height))
        faintest, strongest = heatmap.HEAT_OPACITY
        opacity = 255 * (faintest + (strongest - faintest) * strength**2)
        assert np.abs(pixels[..., 3] - opacity).max() < 2
        place = strength * (len(heatmap.INFERNO) - 1)
        for channel in range(3):
            colour = np.interp(place, range(len(heatmap.INFERNO)), [c[channel] for c in heatmap.INFERNO])
            assert np.abs(pixels[..., channel] - colour).max() < 4
        page.wait_for_timeout(250)  # the fade of the whole map
        seen.append(photograph.screenshot())
    assert len(set(seen)) == len(seen)
    page.mouse.move(0, 0)
    entry.locator(".picture:not(.marked)").wait_for()
    nouns = max(range(len(answer["words"])), key=lambda index: len(answer["words"][index]["text"]))
    entry.locator(".word").nth(nouns).hover()
    shown(entry, nouns)
    page.wait_for_timeout(250)
    assert len(screenshot(page, "serve-page", tmp_path).getcolors(2**20) or []) > 1000


def test_the_width_of_lines_is_the_confidence(page: Any, server: RunningServer) -> None:
    answer = server.caption(PHOTOGRAPHER.read_bytes()).json
    hand_over(page, (PHOTOGRAPHER.name, PHOTOGRAPHER.read_bytes()))
    widths = (
        captioned(page)
        .locator(".word span")
        .evaluate_all("(spans) => spans.map((span) => parseFloat(getComputedStyle(span).textDecorationThickness))")
    )
    confidences = [word["confidence"] for word in answer["words"]]
    order = np.argsort(confidences, kind="stable")
    assert (np.diff(np.array(widths)[order]) >= 0).all() and len(set(widths)) > 1


def test_words_that_did_not_depend_on_the_picture_are_marked(page: Any, server: RunningServer) -> None:
    answer = server.caption(PHOTOGRAPHER.read_bytes(), "?faithfulness=true").json
    unseen = [not word["depends_on_picture"] for word in answer["words"]]
    assert any(unseen) and not all(unseen)
    hand_over(page, (PHOTOGRAPHER.name, PHOTOGRAPHER.read_bytes()))
    entry = captioned(page)
    entry.locator(".checked", has_text=f"{sum(unseen)} of {len(unseen)} words did not").wait_for()
    marked = entry.locator(".word").evaluate_all("(words) => words.map((word) => word.classList.contains('unseen'))")
    assert marked == unseen
    entry.locator(".word").nth(unseen.index(True)).hover()
    assert "did not depend on the picture" in entry.locator(".told").text_content()


def test_playing_walks_through_the_words(page: Any) -> None:
    hand_over(page, (PHOTOGRAPHER.name, PHOTOGRAPHER.read_bytes()))
    entry = captioned(page)
    count = entry.locator(".word").count()
    entry.locator("canvas.map").evaluate(
        """(canvas) => {
            window.drawn = [];
            const note = () => canvas.dataset.drawn && drawn.push(Number(canvas.dataset.drawn));
            new MutationObserver(note).observe(canvas, { attributeFilter: ["data-drawn"] });
        }"""
    )
    play = entry.locator(".play")
    play.click()
    assert play.text_content() == "Stop"
    entry.locator(".play:text-is('Play')").wait_for()
    assert page.evaluate("drawn") == list(range(count))
    entry.locator(".picture:not(.marked)").wait_for()
    play.click()
    play.click()
    assert play.text_content() == "Play"


def test_with_keys_alone(page: Any, server: RunningServer) -> None:
    page.on("filechooser", lambda chooser: chooser.set_files(PHOTOGRAPHER))
    keyboard = page.keyboard
    files = page.locator("#files")
    while not files.evaluate("(input) => input === document.activeElement"):
        keyboard.press("Tab")
    keyboard.press("Enter")
    entry = captioned(page)
    before = sentence(entry)

    def walk_to(selector: str) -> None:
        for _ in range(40):
            keyboard.press("Tab")
            if entry.locator(selector).evaluate_all("(all) => all.includes(document.activeElement)"):
                return
        raise AssertionError(f"no Tab leads to {selector}")

    walk_to(".word")
    first = shown(entry, 0)
    keyboard.press("ArrowRight")
    assert not np.array_equal(shown(entry, 1), first)
    keyboard.press("End")
    shown(entry, before.count(" "))
    keyboard.press("Home")
    keyboard.press("ArrowRight")
    keyboard.press("Enter")
    walk_to(".alternatives button")
    chosen = page.evaluate("document.activeElement.textContent").split()[0]
    keyboard.press("Enter")
    entry.locator(f".word[data-index='1']:has-text('{chosen}')").wait_for()
    captioned(page)
    assert sentence(entry).split()[:2] == [before.split()[0], chosen]
    assert page.evaluate("document.activeElement.dataset.index") == "1"
    keyboard.press("Escape")

    walk_to(".ask")
    keyboard.press("Enter")
    box = entry.locator(".box")
    assert box.evaluate("(box) => box === document.activeElement")
    placed = box.get_attribute("aria-label")
    keyboard.press("ArrowRight")
    keyboard.press("Shift+ArrowDown")
    assert box.get_attribute("aria-label") != placed
    with page.expect_request(re.compile("region=")) as asked:
        keyboard.press("Enter")
    entry.locator(".where:has-text('box')").wait_for()
    region = parse_qs(urlsplit(asked.value.url).query)["region"][0]
    assert sentence(entry) == server.caption(PHOTOGRAPHER.read_bytes(), f"?region={region}").json["caption"]


def test_another_word_leads_to_another_sentence(page: Any, server: RunningServer) -> None:
    photograph = PHOTOGRAPHER.read_bytes()
    hand_over(page, (PHOTOGRAPHER.name, photograph))
    entry = captioned(page)
    before = sentence(entry)
    answer = server.caption(photograph, "?alternatives=6").json
    entry.locator(".word").nth(1).click()
    offered = entry.locator(".alternatives button")
    offered.first.wait_for()
    words = [other["text"] for other in answer["words"][1]["alternatives"]]
    assert [text.split()[0] for text in offered.all_text_contents()][: len(words)] == words
    offered.nth(1).click()
    entry.locator(f".word[data-index='1']:has-text('{words[1]}')").wait_for()
    captioned(page)
    prefix = f"{answer['words'][0]['text']} {words[1]}"
    assert sentence(entry) == server.caption(photograph, f"?prefix={prefix.replace(' ', '%20')}").json["caption"]
    assert sentence(entry) != before
    assert page.locator("#log").text_content().endswith(f"caption: {sentence(entry)}")
    entry.locator(".back").click()
    entry.locator(f".word[data-index='1']:has-text('{before.split()[1]}')").wait_for()
    assert sentence(entry) == before


def test_a_box_is_asked_about(page: Any, captioner: Captioner, tmp_path: Path) -> None:
    hand_over(page, (PHOTOGRAPHER.name, PHOTOGRAPHER.read_bytes()))
    entry = captioned(page)
    before = sentence(entry)
    entry.locator(".ask").click()
    entry.locator(".picture.boxing").wait_for()
    frame = entry.locator(".picture").bounding_box()
    corner = (frame["x"] + 0.55 * frame["width"], frame["y"] + 0.05 * frame["height"])
    page.mouse.move(*corner)
    page.mouse.down()
    page.mouse.move(corner[0] + 30, corner[1] + 30)
    page.mouse.move(frame["x"] + 0.98 * frame["width"], frame["y"] + 0.45 * frame["height"])
    with page.expect_request(re.compile("region=")) as asked:
        page.mouse.up()
    entry.locator(".where:has-text('Looking only in the box.')").wait_for()
    captioned(page)
    region = Region.parse(parse_qs(urlsplit(asked.value.url).query)["region"][0])
    np.testing.assert_allclose(
        (region.left, region.top, region.right, region.bottom), (0.55, 0.05, 0.98, 0.45), atol=0.02
    )
    caption = captioner.caption(PHOTOGRAPHER, captioner.request(region=region))
    assert sentence(entry) == caption.text
    # No map reaches out of the box by more than half a cell that it may count in, and the smoothing of one.
    rows, columns = captioner.grid
    for index in range(2):
        entry.locator(".word").nth(index).hover()
        opacity = shown(entry, index)[..., 3].astype(int)
        height, width = opacity.shape
        least = 255 * heatmap.HEAT_OPACITY[0]
        outside = opacity[round((region.bottom + 1.6 / rows) * height) :, :]
        assert np.abs(outside - least).max() <= 1
        assert np.abs(opacity[:, : round((region.left - 1.6 / columns) * width)] - least).max() <= 1
    page.wait_for_timeout(250)
    screenshot(page, "serve-box", tmp_path)
    entry.locator(".whole").click()
    entry.locator(".whole").wait_for(state="hidden")
    assert sentence(captioned(page)) == before


def test_what_is_no_photograph_is_told_and_stops_nothing(page: Any, tmp_path: Path) -> None:
    hand_over(
        page,
        ("notes.txt", b"these are notes"),
        ("half.jpg", PHOTOGRAPHER.read_bytes()[:9000]),
        ("a.jpg", PHOTOGRAPHER.read_bytes()),
    )
    page.locator(".entry").nth(2).wait_for()
    page.locator(".status:has-text('Ready')").wait_for()
    states = page.locator(".entry").evaluate_all("(all) => all.map((entry) => entry.dataset.state)")
    assert states == ["done", "failed", "failed"]
    errors = page.locator(".entry .error:visible").all_text_contents()
    assert errors[1] == "notes.txt: not a photograph of an allowed format"
    assert errors[0].startswith("half.jpg: truncated file")
    page.locator(".entry").nth(1).locator(".remove").click()
    assert page.locator(".entry").count() == 2


def test_twenty_photographs_at_once(page: Any, server: RunningServer) -> None:
    files = [(f"{number:02d}-{path.name}", path.read_bytes()) for number, path in enumerate(PHOTOGRAPHS * 3)][:19]
    files.insert(7, ("broken.jpg", b"nothing"))
    hand_over(page, *files)
    page.locator(".entry").nth(19).wait_for(state="attached")
    page.locator(".status:has-text('Ready')").wait_for()
    entries = page.locator(".entry")
    assert entries.count() == 20
    assert page.locator(".entry[data-state=failed] .name").all_text_contents() == ["broken.jpg"]
    names = entries.locator(".name").all_text_contents()
    assert names == [name for name, _ in reversed(files)]
    wanted = {path.name: server.caption(path.read_bytes()).json["caption"] for path in PHOTOGRAPHS}
    for number in range(20):
        if (name := names[number]) != "broken.jpg":
            assert sentence(entries.nth(number)) == wanted[name[3:]]


def test_a_service_that_is_full_is_asked_again(browser: Any) -> None:
    with start_server("--queue", 1, "--batch-size", 1) as server, visit(browser, server.url) as page:
        hand_over(page, *[(path.name, path.read_bytes()) for path in PHOTOGRAPHS])
        captioned(page, len(PHOTOGRAPHS))
        assert server.metric('captionlens_requests_total{route="/v1/caption",status="503"}') >= 1


def test_names_are_never_markup(page: Any) -> None:
    hand_over(page, (NASTY, PHOTOGRAPHER.read_bytes()), (NASTY, b"nothing"))
    page.locator(".status:has-text('Ready')").wait_for()
    page.locator(".entry[data-state=failed]").wait_for()
    assert page.locator(".entry .name").all_text_contents() == [NASTY, NASTY]
    assert page.locator("img[src=x]").count() == 0


def test_pasting_the_camera_and_the_example(page: Any) -> None:
    hand_over(page, ("image.jpg", PHOTOGRAPHER.read_bytes()), kind="paste")
    first = sentence(captioned(page))
    page.locator("#example").click()
    assert sentence(captioned(page, 2)) == first  # the same photograph
    page.locator("#camera-open").click()
    page.locator("#camera .take").click()
    captioned(page, 3)
    assert page.locator("#camera").is_hidden()


def test_the_alt_text_the_figure_and_the_answer_can_be_taken_along(
    browser: Any, server: RunningServer, captioner: Captioner, tmp_path: Path
) -> None:
    with visit(browser, server.url, permissions=["clipboard-read", "clipboard-write"]) as page:
        hand_over(page, (PHOTOGRAPHER.name, PHOTOGRAPHER.read_bytes()))
        entry = captioned(page)
        entry.locator(".copy").click()
        entry.locator(".copied:has-text('Copied')").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == sentence(entry)
        with page.expect_download() as figure:
            entry.locator(".figure").click()
        assert figure.value.suggested_filename == "photographer-attention.png"
        figure.value.save_as(tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as drawn:
            assert drawn.size == captioner.caption(PHOTOGRAPHER).figure().size
        with page.expect_download() as answer:
            entry.locator(".json").click()
        answer.value.save_as(tmp_path / "answer.json")
        kept = json.loads((tmp_path / "answer.json").read_text())
        assert kept["caption"] == sentence(entry) and kept["path"] == PHOTOGRAPHER.name
        assert np.array(kept["words"][0]["attention"]).shape == captioner.grid


def test_settings_change_the_search(page: Any, server: RunningServer) -> None:
    photograph = PHOTOGRAPHER.read_bytes()
    hand_over(page, (PHOTOGRAPHER.name, photograph))
    entry = captioned(page)
    page.locator("#settings summary").click()
    page.locator("[name=random]").check()
    page.locator("[name=temperature]").fill("2")
    page.locator("[name=seed]").fill("5")
    with page.expect_response(re.compile("seed=5")):
        page.locator("#again").click()
    entry.locator(".another").wait_for()
    assert sentence(captioned(page)) == server.caption(photograph, "?temperature=2&seed=5").json["caption"]
    with page.expect_response(re.compile("seed=6")):
        entry.locator(".another").click()
    wanted = server.caption(photograph, "?temperature=2&seed=6").json["caption"]
    entry.locator(f".picture img[alt='{wanted}']").wait_for()
    page.reload()
    page.locator("#settings summary").click()
    assert page.locator("[name=random]").is_checked() and page.locator("[name=temperature]").input_value() == "2"


def test_a_token_is_asked_for(browser: Any) -> None:
    with start_server(env={"CAPTIONLENS_TOKEN": "s3cret"}) as server, visit(browser, server.url) as page:
        hand_over(page, (PHOTOGRAPHER.name, PHOTOGRAPHER.read_bytes()))
        field = page.locator("#token input")
        field.fill("wrong")
        field.press("Enter")
        page.locator("#token .refused:has-text('does not know')").wait_for()
        field.fill("s3cret")
        field.press("Enter")
        captioned(page)
        page.locator("#token").wait_for(state="hidden")


def test_below_a_path(browser: Any, captioner: Captioner) -> None:
    import socket
    import threading

    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from captionlens.server.app import create_app

    above = Starlette(routes=[Mount("/captions", create_app(captioner))])
    server = uvicorn.Server(uvicorn.Config(above, log_config=None))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # the browser may come before the service is ready
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        with visit(browser, f"http://127.0.0.1:{listening.getsockname()[1]}/captions/") as page:
            page.locator("#example").click()
            captioned(page)
            page.locator("footer a").click()
            page.locator(".route").nth(5).wait_for()
        server.should_exit = True
        thread.join(20)


PHONE = {"viewport": {"width": 320, "height": 700}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
def test_nobody_is_kept_out(
    browser: Any,
    server: RunningServer,
    violations: Callable[[Any], list[str]],
    scheme: str,
    phone: bool,
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {"color_scheme": scheme} | (PHONE if phone else {})
    with visit(browser, server.url, **options) as page:
        page.locator("#model:has-text('captionlens-base')").wait_for()
        assert violations(page) == []
        hand_over(page, ("no.jpg", b"nothing"), (PHOTOGRAPHER.name, PHOTOGRAPHER.read_bytes()))
        entry = captioned(page)
        page.locator(".entry[data-state=failed]").wait_for()
        entry.locator(".checked", has_text="depend").wait_for()
        word = entry.locator(".word").nth(1)
        (word.tap if phone else word.click)()
        entry.locator(".alternatives button").first.wait_for()
        shown(entry, 1)
        page.wait_for_timeout(250)
        assert violations(page) == []
        if scheme == "dark" or phone:
            entry.scroll_into_view_if_needed()
            screenshot(page, f"serve-{'phone' if phone else 'wide'}-{scheme}", tmp_path)
        page.locator("#settings summary").click()
        entry.locator(".ask").click()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.goto(f"{server.url}docs")
        page.locator(".route").first.wait_for()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_in_chinese(
    browser: Any, server: RunningServer, violations: Callable[[Any], list[str]], tmp_path: Path
) -> None:
    with visit(browser, server.url, locale="zh-CN") as page:
        page.locator("#example").click()
        entry = captioned(page)
        assert page.locator("html").get_attribute("lang").startswith("zh")
        assert re.search("[\u4e00-\u9fff]", entry.locator(".copy").text_content())
        assert entry.locator(".word span").first.get_attribute("lang") == "en"
        visible = page.locator("body").inner_text()
        english = set(re.findall(r"\b(?:Drop|Choose|Copy|Remove|Settings|Ready|Waiting|Play|Download)\b", visible))
        assert english == set()
        assert violations(page) == []
        screenshot(page, "serve-chinese", tmp_path)
        page.locator("#settings summary").click()
        page.locator("[name=language]").select_option("en")
        assert page.locator("html").get_attribute("lang") == "en"
        assert entry.locator(".copy").text_content() == "Copy alt text"


def test_the_docs_tell_every_route(page: Any, server: RunningServer) -> None:
    page.goto(f"{server.url}docs")
    page.locator(".route").first.wait_for()
    text = page.locator("body").inner_text()
    for path, methods in server.ask("GET", "/openapi.json").json["paths"].items():
        for operation in methods.values():
            assert path in text and operation["summary"] in text
    for parameter in ("beam", "region", "faithfulness"):
        assert parameter in text


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("path", "told"), [("api-generate", "response"), ("v1-chat-completions", "choices")])
def test_the_docs_have_a_line_that_can_be_run(page: Any, server: RunningServer, path: str, told: str) -> None:
    page.goto(f"{server.url}docs")
    line = page.locator(f".route:has(#post-{path}) pre").first.inner_text()
    done = subprocess.run(line, shell=True, capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout)[told]


def test_pictures_of_the_docs_are_pictures() -> None:
    for name in SHOWN:
        with Image.open(io.BytesIO((REPOSITORY / "docs" / "images" / f"{name}.png").read_bytes())) as picture:
            assert picture.width >= 600
