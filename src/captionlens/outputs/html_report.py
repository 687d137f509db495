"""One HTML file for many photographs: point at a word and see where the network looked for it.

The file needs no other file and no network, and it allows itself none: its Content-Security-Policy names
the hash of its one script and its one style sheet, and pictures only from within. Everything that comes from
outside (file names, words, messages) is escaped and stands in text or in quoted attributes, never in the
script.
"""

import base64
import hashlib
import html
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionlens import files
from captionlens.drawing import heatmap
from captionlens.errors import CaptionlensError
from captionlens.outputs.formats import NOT_SURE
from captionlens.runtime.caption import Caption
from captionlens.runtime.faithfulness import Faithfulness

_JPEG_QUALITY = 82
_UNSEEN = "did not depend on the picture"


@dataclass(frozen=True, slots=True, eq=False)
class ReportEntry:
    """One photograph of a report, or the error that kept it from having a caption.

    Raises:
        ValueError: there is neither a photograph nor an error, or not as many maps or certainties as words, or
            some words were examined and others not.
    """

    name: str  # as shown: the path, say
    image: Image.Image | None = None
    words: list[str] = field(default_factory=list)
    certainties: list[float] = field(default_factory=list)  # how sure the network is, one a word, in [0, 1]
    attention: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 1, 1), np.float32))  # (N, R, C)
    faithfulness: list[Faithfulness] = field(default_factory=list)  # one a word, or none where not examined
    references: list[str] | tuple[str, ...] = ()  # what people wrote
    error: str | None = None
    score: float | None = None

    def __post_init__(self) -> None:
        if self.error is None and self.image is None:
            raise ValueError(f"the report's entry {self.name!r} has neither a photograph nor an error")
        if not len(self.words) == len(self.certainties) == len(self.attention):
            raise ValueError(
                f"the report's entry {self.name!r} has {len(self.words)} words, "
                f"{len(self.certainties)} certainties and {len(self.attention)} maps"
            )
        if len(self.faithfulness) not in (0, len(self.words)):
            raise ValueError(
                f"the report's entry {self.name!r} has {len(self.words)} words, {len(self.faithfulness)} examined"
            )


def html_report(
    entries: Iterable[ReportEntry],
    *,
    title: str = "Where each word looked",
    model: str = "",
    decoding: str = "",
    examined: bool = False,
    max_side: int = 480,
) -> str:
    """The report as text; `write_report` keeps only one photograph in memory at a time.

    Args:
        entries: the photographs, in the order in which they are shown.
        title: the heading.
        model: the model's name, for the head.
        decoding: how captions were searched (`beam 3`, say), for the head.
        examined: whether entries have `faithfulness`; the head then says how words are marked that did not depend on
            the picture.
        max_side: photographs are reduced until neither side is longer than this, in pixels.

    Raises:
        ValueError: a map is not a grid of finite weights >= 0.
    """
    return "".join(_pieces(entries, title, model, decoding, examined, max_side))


def write_report(
    path: str | os.PathLike[str],
    entries: Iterable[ReportEntry],
    *,
    title: str = "Where each word looked",
    model: str = "",
    decoding: str = "",
    examined: bool = False,
    max_side: int = 480,
) -> None:
    """Write the report to `path`, entry by entry as they come; the file appears when it is whole.

    Arguments and errors are those of `html_report`.

    Raises:
        OSError: the file cannot be written.
    """
    with files.atomic_open(path) as file:
        for piece in _pieces(entries, title, model, decoding, examined, max_side):
            file.write(piece.encode())


class _Report:
    """A report in the making: captions written one by one, so that only one photograph is in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.shown = self.failed = 0

    def write(self, caption: Caption) -> None:
        """Add a photograph with its caption, or what kept it from having one."""
        entry = _entry_of(caption)
        if entry.image is None:
            self.failed += 1
            piece = _failed(entry, str(entry.error))
        else:
            self.shown += 1
            piece = _shown(entry, entry.image, f"n{self.shown + self.failed}", 480)
        self._file.write(piece.encode())


@contextmanager
def open_report(
    path: str | os.PathLike[str], *, model: str = "", decoding: str = "", examined: bool = False
) -> Iterator[_Report]:
    """A report that captions are written to one by one; the file appears at the end of the block.

    Args:
        path: of the file.
        model: the model's name, for the head.
        decoding: how captions were searched, for the head.
        examined: whether words have `faithfulness`.

    Raises:
        OSError: the file cannot be written.
    """
    with files.atomic_open(path) as file:
        report = _Report(file)
        file.write(_head("Where each word looked", model, decoding, examined).encode())
        yield report
        file.write(_foot(report.shown, report.failed).encode())


def _entry_of(caption: Caption) -> ReportEntry:
    name = os.path.basename(caption.path or "-")  # noqa: PTH119 (a name may end in a slash)
    if caption.withheld:
        return ReportEntry(name, error=NOT_SURE)
    try:
        image = caption.image()
    except CaptionlensError as error:
        return ReportEntry(name, error=str(error))
    return ReportEntry(
        name,
        image=image,
        words=[word.text for word in caption.words],
        certainties=[word.certainty for word in caption.words],
        attention=caption.attention,
        faithfulness=[word.faithfulness for word in caption.words if word.faithfulness is not None],
    )


def drawing_settings() -> dict[str, str]:
    """What heatmap.js takes from the data attributes of <body>, to draw maps as `heatmap` does."""
    faintest, strongest = heatmap.HEAT_OPACITY
    return {
        "palette": "".join(f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in heatmap.INFERNO),
        "floor": str(heatmap.FLOOR),
        "opacity": f"{faintest} {strongest}",
    }


def _pieces(
    entries: Iterable[ReportEntry], title: str, model: str, decoding: str, examined: bool, max_side: int
) -> Iterator[str]:
    yield _head(title, model, decoding, examined)
    shown = failed = 0
    for number, entry in enumerate(entries):
        if entry.error is not None:
            failed += 1
            yield _failed(entry, entry.error)
        elif entry.image is not None:
            shown += 1
            yield _shown(entry, entry.image, f"n{number}", max_side)
    yield _foot(shown, failed)


def _head(title: str, model: str, decoding: str, examined: bool) -> str:
    script, style = _template("heatmap.js") + _template("report.js"), _template("report.css")
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    about = "".join(f"<span>{_text(fact)}</span>" for fact in (model, decoding) if fact)
    settings = " ".join(f'data-{name}="{value}"' for name, value in drawing_settings().items())
    legend = f'<span><span class="unseen">Grey and dotted</span>: {_UNSEEN}.</span>' if examined else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body {settings}>\n"
        f'<header>\n<h1>{_text(title)}</h1>\n<p class="about">{about}</p>\n'
        '<p class="key"><span>Point at a word, tap it, or walk with the arrow keys.</span>'
        '<span class="scale">looked little <canvas aria-hidden="true"></canvas> looked most</span>'
        f"<span>The thicker the line under a word, the surer the network.</span>{legend}</p>\n</header>\n<main>\n"
    )


def _foot(shown: int, failed: int) -> str:
    script = _template("heatmap.js") + _template("report.js")
    unread = f"; {failed} could not be read" if failed else ""
    noun = "photograph" if shown == 1 else "photographs"
    return (
        f"</main>\n<footer><p>{shown} {noun} with captions{unread}.</p></footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _failed(entry: ReportEntry, error: str) -> str:
    return (
        f'<article class="entry failed"><div><h2 class="name">{_text(entry.name)}</h2>'
        f'<p class="error">{_text(error)}</p></div></article>\n'
    )


def _shown(entry: ReportEntry, image: Image.Image, identity: str, max_side: int) -> str:
    reduced = heatmap.reduce(image, max_side)
    caption = " ".join(entry.words)
    score = "" if entry.score is None else f'<p class="score">Score {entry.score:.3f}</p>\n'
    references = ""
    if entry.references:
        listed = "".join(f"<li>{_text(reference)}</li>" for reference in entry.references)
        references = f"<details><summary>What people wrote</summary><ul>{listed}</ul></details>\n"
    return (
        f'<article class="entry" aria-labelledby="{identity}">\n'
        f'<div class="picture"><img src="{_data_uri(reduced)}" width="{reduced.width}" '
        f'height="{reduced.height}" alt="{_text(caption)}" loading="lazy" decoding="async">'
        '<canvas aria-hidden="true"></canvas></div>\n'
        f'<div>\n<h2 class="name" id="{identity}">{_text(entry.name)}</h2>\n'
        f"{_words(entry)}{score}{references}</div>\n</article>\n"
    )


def _words(entry: ReportEntry) -> str:
    if not entry.words:
        return '<p class="told">The caption has no words.</p>\n'
    rows, columns = entry.attention.shape[1:]
    faithfulness: Sequence[Faithfulness | None] = entry.faithfulness or [None] * len(entry.words)
    words = "\n".join(map(_word, entry.words, entry.certainties, entry.attention, faithfulness))
    return (
        '<div class="caption" role="toolbar" aria-label="Words of the caption" '
        f'data-rows="{rows}" data-columns="{columns}">\n{words}\n</div>\n'
        # Without the script the button would do nothing, so only the script shows it.
        '<div class="controls"><button type="button" class="play" hidden>Play</button>'
        '<output class="told"></output></div>\n'
    )


def _word(word: str, certainty: float, map_: NDArray[np.float32], faithfulness: Faithfulness | None) -> str:
    """A word as a button that carries its map: a byte a cell, and the peak over the uniform weight."""
    where = heatmap.whereabouts(map_)
    top = float(map_.max())
    cells = np.rint(map_ / top * 255).astype(np.uint8) if top > 0 else np.zeros(map_.shape, np.uint8)
    told = f"{word} · {certainty:.0%} sure · looked {'' if where == 'all over' else 'most at the '}{where}"
    mark = ""
    if faithfulness is not None:
        told += f" · probability {faithfulness.probability:.0%}, {faithfulness.blanked:.0%} without what it looked at"
        told += f", {faithfulness.control:.0%} without as much elsewhere"
        if not faithfulness.depends_on_picture:
            told += f" · {_UNSEEN}"
            mark = f' unseen" title="{_UNSEEN}'
    return (
        f'<button type="button" class="word p{min(4, int(certainty * 5))}{mark}" data-told="{_text(told)}" '
        f'data-map="{base64.b64encode(cells.tobytes()).decode()}" data-peak="{top * map_.size:.4g}">'
        f"<span>{_text(word)}</span></button>"
    )


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _text(text: str) -> str:
    """Escaped for element content and for double-quoted attributes; bytes of a file name that are no UTF-8
    become question marks."""
    return html.escape(text.encode("utf-8", "replace").decode())


def _template(name: str) -> str:
    return resources.files("captionlens.outputs").joinpath("report_template", name).read_text("utf-8")


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
