"""The page that captions in the browser: put together as its users do, and held against the Python captioner."""

import base64
import functools
import http.server
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import captionlens
from captionlens import Caption
from captionlens.drawing import heatmap
from captionlens.errors import DownloadError
from captionlens.runtime.images import Preprocessing
from helpers.canvas import canvas_pixels
from helpers.paths import REPOSITORY

pytestmark = pytest.mark.slow

PHOTOGRAPHS = sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))

# Drops a file where the pointer is, as a person's file manager would.
DROP = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name));
    document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
}"""

# Keeps what the captioner answers the page.
LISTEN = """
window.answers = [];
window.Worker = class extends Worker {
    constructor(...all) {
        super(...all);
        this.addEventListener("message", ({ data }) => data.result && answers.push(data.result));
    }
};
"""

RESIZE = """async ([content, width, height, size, interpolation]) => {
    const { resize } = await import("./pixels.mjs");
    const data = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    return [...resize({ data, width, height }, size, interpolation)];
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, put together."""
    specification = importlib.util.spec_from_file_location("build_page", REPOSITORY / "browser" / "build.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("page") / "site"
    cache = REPOSITORY / "build"
    cache.mkdir(exist_ok=True)
    try:
        module.build(folder, cache=cache, progress=False)
    except DownloadError as error:
        pytest.skip(f"onnxruntime-web cannot be downloaded: {error}")
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Of a server that only hands out the files of the page."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, ready; at the end it must not have complained, nor have asked another host for anything."""
    opened = browser.new_page()
    complaints: list[str] = []
    ours = (address, f"blob:{address}")
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: complaints.extend([request.url] * (not request.url.startswith(ours))))
    opened.add_init_script(LISTEN)
    opened.goto(address)
    opened.locator(".status", has_text="Ready.").wait_for(timeout=120_000)
    yield opened
    opened.close()
    assert complaints == []


def test_a_model_that_is_not_whole_is_named(tmp_path: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        REPOSITORY / "browser" / "build.py",
        tmp_path / "site",
        "--model",
        tmp_path / "no",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"build.py: {tmp_path / 'no'}: no such model directory\n"
    assert not (tmp_path / "site").exists()


def drop(page: Any, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def captioned(page: Any, path: Path) -> Any:
    """Drop a photograph, and wait for the words of its caption; gives the entry."""
    drop(page, path.name, path.read_bytes())
    entry = page.locator(".entry").first
    entry.locator(".name", has_text=path.name).wait_for(state="attached")
    entry.locator(".word").first.wait_for(state="attached", timeout=60_000)
    return entry


def test_it_says_and_looks_as_the_captioner_does(page: Any) -> None:
    captioner = captionlens.load()
    assert len(PHOTOGRAPHS) >= 5
    others: list[str] = []

    def score(caption: Caption) -> float:
        """Mean log-probability of a word, <end> included, which the search compares."""
        return caption.log_prob / (len(caption.words) + 1)

    for path in PHOTOGRAPHS:
        ours = captioner.caption(path)
        entry = captioned(page, path)
        theirs = page.evaluate("answers.at(-1).words")
        said = entry.locator(".word").all_text_contents()
        if said != [word.text for word in ours.words]:
            # Chromium decodes and scales photographs a little differently, which decides between equals.
            (forced,) = captioner.force(path, [" ".join(said)])
            assert score(forced) == pytest.approx(score(ours), abs=0.03), path.name
            others.append(path.name)
            continue
        for number, (word, map_) in enumerate(zip(ours.words, ours.attention, strict=True)):
            entry.locator(".word").nth(number).hover()
            told = entry.locator(".told").text_content().split(" · ")
            assert told[0] == word.text
            sure = float(told[1].partition("%")[0])
            assert word.confidence is not None
            assert sure == pytest.approx(100 * word.confidence, abs=3)
            attention = np.array(theirs[number]["attention"], np.float32)
            assert attention.shape == map_.shape
            assert np.abs(attention - map_).max() < 0.05
        assert page.locator(".entry img").first.get_attribute("alt") == ours.hedged
        told = page.locator(".entry .sure").first.text_content()
        assert ours.confidence is not None
        assert float(told.partition("%")[0]) == pytest.approx(100 * ours.confidence, abs=3)
    assert len(others) <= 2, others


def test_a_word_shows_where_it_looked(page: Any) -> None:
    captioned(page, PHOTOGRAPHS[0])
    entry = page.locator(".entry").first
    drawn = []
    for number in (1, 4):
        entry.locator(".word").nth(number).hover()
        assert entry.locator(".picture.marked").count() == 1
        drawn.append(page.evaluate("document.querySelector('.entry canvas').toDataURL()"))
    assert drawn[0] != drawn[1]
    # What is drawn is what heatmap.py draws of the map that the captioner gave.
    opacity = canvas_pixels(entry.locator("canvas"))[..., 3] / 255
    height, width = opacity.shape
    map_ = np.array(page.evaluate("answers.at(-1).words[4].attention"), np.float32)
    faintest, strongest = heatmap.HEAT_OPACITY
    wanted = faintest + (strongest - faintest) * heatmap.strength(map_, (width, height)) ** 2
    assert np.abs(opacity - wanted).max() < 0.01
    entry.locator(".word").first.focus()
    page.keyboard.press("ArrowRight")
    assert entry.locator(".word.shown").text_content() == entry.locator(".word").nth(1).text_content()


def test_what_is_no_photograph_is_refused_and_the_next_is_captioned(page: Any) -> None:
    name = "<b>no</b>.jpg"
    drop(page, name, b"not a photograph")
    failed = page.locator(".entry.failed").first
    failed.wait_for(state="attached")
    assert failed.locator(".name").text_content() == name  # as text, never as markup
    assert "not a photograph" in failed.locator(".error").text_content()
    assert captioned(page, PHOTOGRAPHS[0]).locator(".word").count() > 0


def test_the_example_and_the_file_dialog_work(page: Any) -> None:
    before = page.locator(".entry").count()
    page.click("#example")
    page.locator(".entry", has_text="example.jpg").locator(".word").first.wait_for(state="attached", timeout=60_000)
    page.set_input_files("#files", [PHOTOGRAPHS[1], PHOTOGRAPHS[2]])
    for number in range(2):
        page.locator(".entry").nth(number).locator(".word").first.wait_for(state="attached", timeout=60_000)
    assert page.locator(".entry").count() == before + 3
    assert page.locator(".status").text_content() == "Ready."


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(97, 61), (700, 523), (320, 48)])
def test_pictures_are_resized_as_pillow_does(page: Any, shape: tuple[int, int], interpolation: str) -> None:
    random = np.random.default_rng(0)
    width, height = shape
    size = 64
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    wanted = Preprocessing(size, (0, 0, 0), (1, 1, 1), interpolation).resize(Image.fromarray(pixels))
    rgba = np.concatenate([pixels, np.full((height, width, 1), 255, np.uint8)], 2)
    content = base64.b64encode(rgba.tobytes()).decode()
    found = page.evaluate(RESIZE, [content, width, height, size, interpolation])
    assert np.abs(np.array(found).reshape(size, size, 3) - wanted.astype(int)).max() <= 1
