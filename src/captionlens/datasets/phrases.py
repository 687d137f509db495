"""Readers of phrases with bounding boxes: Flickr30k Entities, and the built-in scenes.

Flickr30k Entities (Plummer et al., IJCV 2017) marks phrases in `Sentences/ID.txt`, one caption per line,

    [/EN#18/people A child] in [/EN#19/clothing a pink dress] is climbing up [/EN#20/other a set of stairs] .

and boxes every entity (18, 19, 20) in `Annotations/ID.xml`, in pixels of the original photograph.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml import ElementTree as SafeXml
from numpy.typing import NDArray

from captionlens.datasets.records import Record
from captionlens.errors import DatasetError, PhrasesMissing

_OPENING = re.compile(r"\[/EN#(\d+)((?:/[^/\s\[\]]+)+)")  # entity number, then one or more types

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class PhraseBoxes:
    """A phrase of a caption and its boxes.

    The phrase is the caption's words from `start` to `end`, exclusive. `boxes` is float32 (n, 4) with n >= 1: left,
    top, right, bottom as fractions of the photograph's width and height.
    """

    start: int
    end: int
    type: str  # 'people', 'clothing', ...; several joined by '/'
    boxes: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PhrasedCaption:
    """The words of a caption, as its source separates them, and its phrases that have boxes."""

    words: tuple[str, ...]
    phrases: tuple[PhraseBoxes, ...]


PhraseReader = Callable[[Record], tuple[PhrasedCaption, ...]]


def phrase_reader(folder: str | Path) -> PhraseReader:
    """Make a reader of a photograph's phrases, from Flickr30k Entities or from drawn scenes.

    Args:
        folder: with `Annotations/` and `Sentences/`, or with `phrases.jsonl`.

    Raises:
        DatasetError: the folder has neither.
    """
    folder = Path(folder)
    if (folder / "phrases.jsonl").exists():
        scenes = read_scene_phrases(folder)

        def of_scene(record: Record) -> tuple[PhrasedCaption, ...]:
            if record.source_id not in scenes:
                raise PhrasesMissing(folder / "phrases.jsonl", f"has no phrases of {record.source_id}")
            return scenes[record.source_id]

        return of_scene
    if not ((folder / "Annotations").is_dir() and (folder / "Sentences").is_dir()):
        raise DatasetError(folder, "has neither Annotations/ and Sentences/ (Flickr30k Entities) nor phrases.jsonl")
    # Flickr8k's files are named NUMBER_HASH.jpg, Flickr30k's NUMBER.jpg.
    return lambda record: read_flickr30k_entities(folder, record.image.stem.partition("_")[0])


def read_flickr30k_entities(folder: str | Path, image_id: str) -> tuple[PhrasedCaption, ...]:
    """Read the captions of one photograph with their phrases, in the order of the sentences file.

    Phrases whose entity has no box (scenes, invisible things) are left out.

    Args:
        folder: the folder with `Annotations/` and `Sentences/`.
        image_id: the photograph's number, without extension; for Flickr8k's file names the part before `_`.

    Raises:
        PhrasesMissing: the photograph has neither file.
        DatasetError: a file is missing or malformed; the message names the file, the line and the cause.
    """
    folder = Path(folder)
    annotation, path = folder / "Annotations" / f"{image_id}.xml", folder / "Sentences" / f"{image_id}.txt"
    if not annotation.exists() and not path.exists():
        raise PhrasesMissing(folder, f"has no phrases of {image_id}")
    boxes = _read_annotation(annotation)
    lines = _read_text(path).splitlines()
    return tuple(_parse_sentence(line, boxes, path, number) for number, line in enumerate(lines, 1))


def all_phrases(folder: str | Path) -> Iterator[tuple[PhrasedCaption, ...]]:
    """Read the phrases of every photograph in a folder of them, see `phrase_reader`; damaged files are left out.

    Raises:
        DatasetError: the folder has neither form.
    """
    folder = Path(folder)
    phrase_reader(folder)  # raises
    if (folder / "phrases.jsonl").exists():
        yield from read_scene_phrases(folder).values()
        return
    for path in sorted((folder / "Sentences").glob("*.txt")):
        with suppress(DatasetError):
            yield read_flickr30k_entities(folder, path.stem)


def all_phrase_words(folder: str | Path) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Read every caption in a folder of phrases: its words, and the numbers of the last words of its phrases.

    Phrases without boxes count, too, but for those that Flickr30k Entities marks as not visible. Damaged files are left
    out.

    Raises:
        DatasetError: the folder has neither form of `phrase_reader`.
    """
    folder = Path(folder)
    phrase_reader(folder)  # raises
    if (folder / "phrases.jsonl").exists():
        for captions in read_scene_phrases(folder).values():
            yield from ((caption.words, tuple(phrase.end - 1 for phrase in caption.phrases)) for caption in captions)
        return
    for path in sorted((folder / "Sentences").glob("*.txt")):
        with suppress(DatasetError):
            for number, line in enumerate(_read_text(path).splitlines(), 1):
                words, phrases = _split_sentence(line, path, number)
                yield words, tuple(end - 1 for _, kind, _, end in phrases if kind != "notvisual")


def read_scene_phrases(folder: str | Path) -> dict[str, tuple[PhrasedCaption, ...]]:
    """Read the captions of all pictures of a folder of scenes, with the box of every phrase, by picture id.

    Args:
        folder: made by `captionlens data scenes`; its `phrases.jsonl` is read.

    Raises:
        DatasetError: the file is missing or malformed; the message names the file, the line and the cause.
    """
    path = Path(folder) / "phrases.jsonl"
    captions: dict[str, list[PhrasedCaption]] = {}
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
            caption = _scene_caption(row)
            captions.setdefault(str(row["id"]), []).append(caption)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DatasetError(path, f"line {number}: not a row of phrases ({reason})") from error
    return {image_id: tuple(rows) for image_id, rows in captions.items()}


def _scene_caption(row: dict[str, Any]) -> PhrasedCaption:
    words = tuple(str(row["caption"]).split())
    size = float(row["size"])
    phrases = []
    for phrase in row["phrases"]:
        start, end = int(phrase["start"]), int(phrase["end"])
        if not 0 <= start < end <= len(words):
            raise ValueError(f"phrase {start}:{end} of {len(words)} words")
        boxes = np.asarray([phrase["box"]], np.float32)
        if boxes.shape != (1, 4):
            raise ValueError(f"a box of {boxes.size} numbers")
        phrases.append(PhraseBoxes(start, end, "shape", boxes / np.float32(size)))
    return PhrasedCaption(words, tuple(phrases))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetError(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise DatasetError(path, f"is not UTF-8 text (byte {error.start})") from error


def _read_annotation(path: Path) -> dict[str, list[Box]]:
    """The boxes of every entity of a photograph, by entity number."""
    try:
        root = SafeXml.fromstring(_read_text(path))
    except ParseError as error:
        raise DatasetError(path, f"malformed XML: {error}") from error  # the error gives line and column
    except DefusedXmlException as error:
        raise DatasetError(path, f"forbidden XML: {error}") from error
    width = _number(root, "size/width", path)
    height = _number(root, "size/height", path)
    if width < 1 or height < 1:
        raise DatasetError(path, f"the photograph's size is given as {width}x{height}")
    boxes: dict[str, list[Box]] = {}
    for item in root.iter("object"):
        found = [_box(element, width, height, path) for element in item.iter("bndbox")]
        for name in item.iter("name"):
            boxes.setdefault((name.text or "").strip(), []).extend(found)
    return boxes


def _number(element: Element, tag: str, path: Path) -> int:
    text = element.findtext(tag)
    if text is None:
        raise DatasetError(path, f"<{element.tag}> has no <{tag}>")
    try:
        return int(text)
    except ValueError as error:
        raise DatasetError(path, f"<{tag}> is {text.strip()!r}, not a whole number") from error


def _box(element: Element, width: int, height: int, path: Path) -> Box:
    left, top, right, bottom = (_number(element, tag, path) for tag in ("xmin", "ymin", "xmax", "ymax"))
    # Pixels are counted from 1 and the last is inclusive: 1..width is the whole width.
    box = (
        max((left - 1) / width, 0.0),
        max((top - 1) / height, 0.0),
        min(right / width, 1.0),
        min(bottom / height, 1.0),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        raise DatasetError(
            path, f"box {left},{top},{right},{bottom} has no area inside the {width}x{height} photograph"
        )
    return box


def _parse_sentence(line: str, boxes: dict[str, list[Box]], path: Path, number: int) -> PhrasedCaption:
    words, phrases = _split_sentence(line, path, number)
    return PhrasedCaption(
        words,
        tuple(
            PhraseBoxes(start, end, kind, np.asarray(boxes[chain], np.float32))
            for chain, kind, start, end in phrases
            if boxes.get(chain)
        ),
    )


def _split_sentence(line: str, path: Path, number: int) -> tuple[tuple[str, ...], list[tuple[str, str, int, int]]]:
    """The words of a sentence, and of each phrase the entity, the type, and its words from start to end."""
    words: list[str] = []
    phrases: list[tuple[str, str, int, int]] = []
    opened: tuple[str, str, int] | None = None  # entity, type and first word of the phrase being read
    for token in line.split():
        if token.startswith("[/EN#"):
            match = _OPENING.fullmatch(token)
            if match is None:
                raise DatasetError(path, f"line {number}: {token!r} does not read [/EN#NUMBER/TYPE")
            if opened is not None:
                raise DatasetError(path, f"line {number}: {token!r} begins inside another phrase")
            opened = (match[1], match[2].lstrip("/"), len(words))
            continue
        closes = opened is not None and token.endswith("]")
        word = token.removesuffix("]") if closes else token
        if word:
            words.append(word)
        if closes and opened is not None:
            chain, kind, start = opened
            if start == len(words):
                raise DatasetError(path, f"line {number}: phrase [/EN#{chain}/{kind} has no words")
            phrases.append((chain, kind, start, len(words)))
            opened = None
    if opened is not None:
        raise DatasetError(path, f"line {number}: phrase [/EN#{opened[0]}/{opened[1]} is not closed by ']'")
    return tuple(words), phrases
