"""The HTML report: one file for many photographs that shows the attention map of each word pointed at.

The file needs no other file and no network, and its Content-Security-Policy forbids both: it allows the one script and
the one style sheet by their hashes, and embedded pictures only. All input (file names, words, messages) is escaped and
stands in text or in quoted attributes, never in the script.
"""

import base64
import hashlib
import html
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionlens import files
from captionlens.drawing import heatmap
from captionlens.errors import CaptionlensError
from captionlens.frontend import assets
from captionlens.outputs.formats import WITHHELD
from captionlens.runtime.caption import Caption, Word

_JPEG_QUALITY = 82
_MAX_SIDE = 480  # pixels that the longer side of a photograph is reduced to
_MODULES = ("heatmap.mjs", "sentence.mjs", "words.mjs")  # each after its imports


class Report:
    """A report being written, one photograph at a time, so that only one is in memory.

    Args:
        file: to write to.
        title: the heading.
        model: the model's name, for the head.
        decoding: the decoding strategy (`beam 3`, say), for the head.
        examined: whether words have `faithfulness`; the head then explains the mark of words that did not depend on
            the picture.
    """

    def __init__(self, file: IO[bytes], *, title: str, model: str, decoding: str, examined: bool) -> None:
        self._file = file
        self._shown = self._failed = 0
        self._script = assets.bundle(*map(assets.read, _MODULES), _own_module())
        self._add(_head(self._script, title, (model, decoding), examined))

    def write(self, caption: Caption) -> None:
        """Add a photograph with its caption.

        A sentence replaces it where the caption has an error or is withheld, or the photograph has been removed since.

        Raises:
            ValueError: the caption's numbers of maps and words differ.
        """
        photograph = _photograph(caption)
        if isinstance(photograph, str):
            self._failed += 1
            self._add(_failed(caption, photograph))
        else:
            self._shown += 1
            identity = f"n{self._shown + self._failed - 1}"
            self._add(_shown(caption, heatmap.reduce(photograph, _MAX_SIDE), identity))

    def finish(self) -> None:
        """Write the end of the page."""
        unread = f"; {self._failed} could not be read" if self._failed else ""
        noun = "photograph" if self._shown == 1 else "photographs"
        self._add(
            f"</main>\n<footer><p>{self._shown} {noun} with captions{unread}.</p></footer>\n"
            f'<script type="module">{self._script}</script>\n</body>\n</html>\n'
        )

    def _add(self, piece: str) -> None:
        self._file.write(piece.encode())


@contextmanager
def open_report(
    path: str | os.PathLike[str],
    *,
    title: str = "Where each word looked",
    model: str = "",
    decoding: str = "",
    examined: bool = False,
) -> Iterator[Report]:
    """Open a report to write captions to; the file appears, complete, at the end of the block.

    Args:
        path: of the file.
        title, model, decoding, examined: see `Report`.

    Raises:
        OSError: the file cannot be written.
    """
    with files.atomic_open(path) as file:
        report = Report(file, title=title, model=model, decoding=decoding, examined=examined)
        yield report
        report.finish()


def _head(script: str, title: str, facts: tuple[str, ...], examined: bool) -> str:
    style = assets.read("style.css")
    policy = (
        f"default-src 'none'; img-src data:; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    about = "".join(f"<span>{_text(fact)}</span>" for fact in facts if fact)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body {assets.drawing_settings()}>\n"
        f'<header>\n<h1>{_text(title)}</h1>\n<p class="about">{about}</p>\n'
        f'<p class="key">{assets.key(examined=examined)}</p>\n</header>\n<main>\n'
    )


def _own_module() -> str:
    return resources.files("captionlens.outputs").joinpath("html_report.mjs").read_text("utf-8")


def _name(caption: Caption) -> str:
    return os.path.basename(caption.path or "-")  # noqa: PTH119 (a name may end in a slash)


def _photograph(caption: Caption) -> Image.Image | str:
    """The photograph, or the reason why its caption is not shown."""
    if caption.withheld:
        return WITHHELD
    try:
        return caption.image()
    except CaptionlensError as error:
        return str(error)


def _failed(caption: Caption, reason: str) -> str:
    return (
        f'<article class="entry failed"><div><h2 class="name">{_text(_name(caption))}</h2>'
        f'<p class="error">{_text(reason)}</p></div></article>\n'
    )


def _shown(caption: Caption, image: Image.Image, identity: str) -> str:
    return (
        f'<article class="entry" aria-labelledby="{identity}">\n'
        f'<div class="picture"><img src="{_data_uri(image)}" width="{image.width}" '
        f'height="{image.height}" alt="{_text(caption.hedged)}" loading="lazy" decoding="async">'
        '<canvas aria-hidden="true"></canvas></div>\n'
        f'<div>\n<h2 class="name" id="{identity}">{_text(_name(caption))}</h2>\n'
        f"{_doubt(caption)}{_words(caption)}</div>\n</article>\n"
    )


def _doubt(caption: Caption) -> str:
    """A line above a caption that the captioner is unsure of."""
    if not caption.unsure:
        return ""
    return f'<p class="doubt">{_text(assets.UNSURE.format(share=round(100 * (caption.confidence or 0))))}</p>\n'


def _words(caption: Caption) -> str:
    """The elements that words.mjs makes interactive; on the pages, parts.mjs creates the same ones."""
    if not caption.words:
        return '<p class="told">The caption has no words.</p>\n'
    rows, columns = caption.attention.shape[1:]
    words = "\n".join(_word(word, map_) for word, map_ in zip(caption.words, caption.attention, strict=True))
    return (
        '<div class="caption" role="toolbar" aria-label="Words of the caption" '
        f'data-rows="{rows}" data-columns="{columns}">\n{words}\n</div>\n'
        # Without the script the button would do nothing, so only the script shows it.
        '<div class="controls"><button type="button" class="play" hidden>Play</button>'
        '<output class="told"></output></div>\n'
    )


def _word(word: Word, map_: NDArray[np.float32]) -> str:
    """A word as a button whose attributes hold the data that html_report.mjs shows."""
    cells, peak = _bytes(map_)
    mark = examined = ""
    if (found := word.faithfulness) is not None:
        examined = f' data-examined="{found.probability:.2f} {found.blanked:.2f} {found.control:.2f}"'
        if not found.depends_on_picture:
            mark = f' unseen" title="{assets.UNSEEN}'
    return (
        f'<button type="button" class="word p{min(4, int(word.certainty * 5))}{mark}" '
        f'data-certainty="{word.certainty:.2f}"{examined} '
        f'data-map="{base64.b64encode(cells.tobytes()).decode()}" data-peak="{peak:.6g}">'
        f"<span>{_text(word.text)}</span></button>"
    )


def _bytes(map_: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:
    """Quantise a map (R, C) to a byte per cell; also its peak as a multiple of the uniform weight.

    Only the strongest cell gets 255, so that the argmax survives.
    """
    top = float(map_.max())
    if top == 0:
        return np.zeros(map_.shape, np.uint8), 0.0
    cells = np.where(map_ == top, 255, np.minimum(np.rint(map_ / top * 255), 254))
    return cells.astype(np.uint8), top * map_.size


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _text(text: str) -> str:
    """Escape text for element content and double-quoted attributes.

    Bytes of a file name that are not UTF-8 become question marks.
    """
    return html.escape(text.encode("utf-8", "replace").decode())


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
