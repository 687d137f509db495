"""The HTML report in Chromium, as Playwright drives it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from captionlens.runtime.caption import Caption
from helpers.report import failure, made_caption

NOISE = Image.effect_noise((400, 300), 60).convert("RGB")


@contextmanager
def visit(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    """A page in a context of its own, see `listening`."""
    context = browser.new_context(**options)
    opened = context.new_page()
    with listening(opened, path):
        yield opened
    context.close()


@contextmanager
def listening(opened: Any, path: Path) -> Iterator[None]:
    """Open a page: there may be no errors, no violations of the policy, and nothing asked for that is not beside it."""
    complaints: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    yield
    assert complaints == []
    outside = [url for url in asked if not url.startswith(("data:", "blob:", path.parent.as_uri()))]
    assert outside == []


def various() -> list[Caption]:
    """Captions of every kind, in three folders."""
    return [
        made_caption("p/2024/italy/b10.jpg", ("a", "dog", "on", "grass"), NOISE, confidence=0.8),
        made_caption("p/2024/italy/b9.jpg", ("two", "cats"), NOISE, confidence=0.3, unsure=True),
        made_caption("p/2024/Café.jpg", ("a", "yellow", "car"), NOISE, confidence=0.1, unsure=True, withheld=True),
        failure("p/2024/broken.jpg", "p/2024/broken.jpg: is empty"),
        made_caption("p/top.jpg", ("a", "dog"), NOISE, confidence=0.6),
    ]


def names(page: Any) -> list[str]:
    found: list[str] = page.locator(".entry .name").all_text_contents()  # also of entries far below the window
    return found


def kinds(page: Any) -> Any:
    return page.get_by_role("combobox", name="Show", exact=True)


def entry(page: Any, name: str) -> Any:
    return page.locator(".entry", has=page.locator(f".name:text-is('{name}')"))


def correct(page: Any, name: str, text: str) -> None:
    found = entry(page, name)
    found.get_by_role("button", name=re.compile("^Correct")).click()
    found.locator("textarea").fill(text)
    found.get_by_role("button", name="Save").click()
