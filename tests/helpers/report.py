"""Captions for HTML reports, their writing, and what they say."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captionlens.errors import CaptionlensError
from captionlens.outputs.html_report import open_report
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.faithfulness import Faithfulness
from captionlens.runtime.photograph import Photograph

NASTY_NAME = "<img src=x onerror=alert(3)>\"'&.jpg"  # a path would end at a slash
NASTY = "<!--<img src=x onerror=alert(1)>\"'&</script><script>alert(2)</script>.jpg"


def made_caption(
    path: str | None = "folder/photo.jpg",
    words: Sequence[str] = ("a", "dog"),
    image: Image.Image | None = None,
    faithfulness: Sequence[Faithfulness] | None = None,
    **more: Any,
) -> Caption:
    """A caption with a map (3, 4) for every word; `more` are other attributes."""
    attention = np.full((len(words), 3, 4), 0.1 / 11, np.float32)
    for number in range(len(words)):
        attention[number].flat[5 * number % 12] = 0.9
    examined: Sequence[Faithfulness | None] = faithfulness or [None] * len(words)
    probabilities = np.linspace(0.99, 0.05, len(words))
    made = Caption(
        " ".join(words),
        words=tuple(
            Word(text, float(probability), faithfulness=found)
            for text, probability, found in zip(words, probabilities, examined, strict=True)
        ),
        attention=attention,
        path=path,
        photograph=Photograph(image or Image.new("RGB", (600, 450), (80, 120, 90))),
    )
    return replace(made, **more)


def failure(path: str, message: str) -> Caption:
    """A photograph that could not be captioned."""
    return Caption("", path=path, error=CaptionlensError(message))


def write_report(path: Path, captions: Iterable[Caption], **about: Any) -> str:
    """Write a report.

    Returns:
        The page.
    """
    with open_report(path, **about) as report:
        for one in captions:
            report.write(one)
    return path.read_text("utf-8")


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text inside scripts, styles and the rest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.inside = {"script": "", "style": "", "entries": "", "names": ""}
        self._open: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.found.append((tag, attributes))
        self._open.append((tag, attributes.get("id", "")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, identity = self._open[-1] if self._open else ("", "")
        if identity in self.inside:
            self.inside[identity] += data
        elif tag in self.inside:
            self.inside[tag] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of a kind."""
        return [attributes for found, attributes in self.found if found == tag]


def entries_of(page: str) -> list[dict[str, Any]]:
    """What a report tells its script of every photograph; `path` is the path that it shows."""
    inside = Elements(page).inside
    entries, about = json.loads(inside["entries"]), json.loads(inside["names"])
    names = [(about["folders"][folder], name) for folder, name in about["names"]]
    return [entry | {"path": "/".join(filter(None, named))} for entry, named in zip(entries, names, strict=True)]


def identity_of(page: str) -> str:
    """Under what the browser keeps the corrections of a report."""
    return str(json.loads(Elements(page).inside["names"])["identity"])
