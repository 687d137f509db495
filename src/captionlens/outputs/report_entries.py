"""Entries of the HTML report: what its script shows of one caption, as one line of compact JSON.

| key | contents |
| --- | --- |
| `error` | why there is nothing to show of the photograph; then it is the only key |
| `image`, `width`, `height` | the address of the reduced photograph, and its size in pixels |
| `text`, `words` | the caption, and its words |
| `certainty` | of every word, in [0, 1] |
| `grid`, `maps`, `peaks` | rows and columns; a byte a cell, word after word, in base64; the peak of every map |
| `examined` | of every word null, or its `Faithfulness`: probability, blanked, control, and whether it depends on it |
| `confidence` | of the caption, where the model is calibrated |
| `doubt` | the line above a caption that is unsure or withheld |
| `hedged` | what stands for the picture of an unsure caption in its alternative text |
| `keywords` | of the caption, where there are some |
| `withheld` | true where the caption is shown only on request |
| `nameless` | why no table can name the photograph |
"""

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import CaptionlensError
from captionlens.frontend import assets
from captionlens.outputs.formats import WITHHELD
from captionlens.outputs.sinks import STDIN
from captionlens.runtime.caption import Caption, Word

_NO_NAME = "A photograph from stdin has no name: its caption cannot be corrected here."
_NOT_UTF8 = "The photograph's name is not UTF-8: its caption cannot be corrected here."


def failed(reason: CaptionlensError) -> dict[str, Any]:
    """Entry of a photograph that there is nothing to show of."""
    return {"error": str(reason)}


def shown(caption: Caption, image: str, size: tuple[int, int]) -> dict[str, Any]:
    """Entry of a photograph with its caption.

    Args:
        caption: without an error.
        image: address of the photograph.
        size: its width and height in pixels.

    Raises:
        ValueError: the caption's numbers of maps and words differ.
    """
    entry: dict[str, Any] = {"image": image, "width": size[0], "height": size[1]}
    entry |= {"text": caption.text, **_words(caption)}
    if caption.confidence is not None:
        entry["confidence"] = round(caption.confidence, 4)
    if caption.keywords:
        entry["keywords"] = caption.keywords
    if caption.withheld:
        entry |= {"withheld": True, "doubt": WITHHELD}
    elif caption.unsure:
        doubt = assets.UNSURE.format(share=round(100 * (caption.confidence or 0)))
        entry |= {"doubt": doubt, "hedged": caption.hedged}
    if caption.path in (None, STDIN):
        entry["nameless"] = _NO_NAME
    elif clean(caption.path) != caption.path:
        entry["nameless"] = _NOT_UTF8
    return entry


def compact(value: Any) -> str:
    """JSON in one line, for a script element of HTML: no text in it can end the element or begin a comment."""
    return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)).replace("<", "\\u003c")


def clean(text: str | None) -> str:
    """The text with question marks for the bytes of a file name that are not UTF-8."""
    return (text or "").encode("utf-8", "replace").decode()


def _words(caption: Caption) -> dict[str, Any]:
    words = [word for word, _ in zip(caption.words, caption.attention, strict=True)]
    quantised = [_bytes(map_) for map_ in caption.attention]
    made: dict[str, Any] = {
        "words": [word.text for word in words],
        "certainty": [round(word.certainty, 2) for word in words],
        "grid": caption.attention.shape[1:],
        "maps": base64.b64encode(b"".join(cells.tobytes() for cells, _ in quantised)).decode(),
        "peaks": [round(peak, 4) for _, peak in quantised],
    }
    if any(word.faithfulness is not None for word in words):
        made["examined"] = [_examined(word) for word in words]
    return made


def _examined(word: Word) -> list[float | bool] | None:
    found = word.faithfulness
    if found is None:
        return None
    shares = (found.probability, found.blanked, found.control)
    return [*(round(share, 2) for share in shares), found.depends_on_picture]


def _bytes(map_: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float]:
    """Quantise a map (R, C) to a byte per cell; also its peak as a multiple of the uniform weight.

    Only the strongest cell gets 255, so that the argmax survives.
    """
    top = float(map_.max())
    if top == 0:
        return np.zeros(map_.shape, np.uint8), 0.0
    cells = np.where(map_ == top, 255, np.minimum(np.rint(map_ / top * 255), 254))
    return cells.astype(np.uint8), top * map_.size
