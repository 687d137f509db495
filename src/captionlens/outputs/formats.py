"""Writers of captions as text, JSON, JSON lines, CSV or COCO results, one by one as they come.

| format | a caption | a photograph that failed |
| --- | --- | --- |
| `text` | the caption; with several photographs `path<TAB>caption` | nothing |
| `json` | an element of one array, see `Caption.to_dict` | an element with `error` |
| `jsonl` | the same object on a line of its own | a line with `error` |
| `csv` | a row `path,caption,log_prob,error,confidence,unsure` | a row with only path and error |
| `coco` | `{"image_id": ..., "caption": ...}` in one array | nothing: the format has no place for it |

A caption that the captioner is unsure of is marked: `text` writes "not sure: " before it, `json` and `jsonl` have
`"unsure": true`, `csv` a 1 in the column `unsure`; `coco` is for scorers and has the caption alone.

A caption can be withheld for its low confidence. Then `text` shows WITHHELD, `json` and `jsonl` give null for the
caption and the caption itself under `withheld`, `csv` leaves it empty, and `coco` writes nothing.
"""

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, TextIO

from captionlens.errors import OptionError
from captionlens.outputs import FORMATS
from captionlens.outputs.sinks import STDIN, Sink
from captionlens.runtime.caption import Caption

WITHHELD = "[not sure: this captioner does not know this kind of photograph]"


@contextmanager
def open_writer(format: str, stream: TextIO, *, many: bool, attention: bool = False) -> Iterator[Sink]:
    """Open a writer of captions in one of FORMATS; the end of the block completes the output.

    `text`, `jsonl` and `csv` flush after every caption, so that a pipe sees each at once. When the block ends
    with an exception, an array of `json` or `coco` stays open: half a result does not pass for a whole one.
    Characters that the stream's encoding lacks are written as escapes.

    Args:
        format: one of FORMATS.
        stream: to write to; it stays open.
        many: whether more than one photograph may come; then `text` gives the path of each.
        attention: whether `json` and `jsonl` include the maps.

    Raises:
        OptionError: the format is not known.
        OSError: the stream cannot be written to.
    """
    writer: _Text | _Array | _Lines | _Csv
    if format == "text":
        writer = _Text(stream, many)
    elif format in ("json", "coco"):
        writer = _Array(stream, format == "coco", attention)
    elif format == "jsonl":
        writer = _Lines(stream, attention)
    elif format == "csv":
        writer = _Csv(stream)
    else:
        raise OptionError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    yield writer
    if isinstance(writer, _Array):
        writer.finish()
    stream.flush()


def coco_image_id(path: str | None) -> int | str:
    """Image id for COCO's results format, from the photograph's name.

    COCO names its files by their id, in 2017 `000000000139.jpg`, in 2014 `COCO_val2014_000000000139.jpg`. So a stem
    that is a number, or ends in `_` and twelve digits, gives that number. Any other stem is the id itself.
    """
    stem = PurePath(path or STDIN).stem
    named = re.fullmatch(r"(?:.*_(?=\d{12}$))?(\d+)", stem, re.ASCII)
    return int(named[1]) if named else stem


class _Text:
    """A line per caption; control characters in a path are escaped so that it stays one line."""

    def __init__(self, stream: TextIO, many: bool) -> None:
        self._stream, self._many = stream, many

    def write(self, caption: Caption) -> None:
        if caption.error is not None:
            return
        line = WITHHELD if caption.withheld else caption.hedged
        if self._many:
            path = re.sub(r"[\x00-\x1f\x7f]", lambda found: repr(found[0])[1:-1], caption.path or STDIN)
            line = f"{path}\t{line}"
        self._stream.write(_encodable(line + "\n", self._stream))
        self._stream.flush()


class _Lines:
    def __init__(self, stream: TextIO, attention: bool) -> None:
        self._stream, self._attention = stream, attention

    def write(self, caption: Caption) -> None:
        self._stream.write(_json(caption.to_dict(attention=self._attention), self._stream) + "\n")
        self._stream.flush()


class _Array:
    """One JSON array, an element per line."""

    def __init__(self, stream: TextIO, coco: bool, attention: bool) -> None:
        self._stream, self._coco, self._attention = stream, coco, attention
        self._before = "[\n"

    def write(self, caption: Caption) -> None:
        if not self._coco:
            element = caption.to_dict(attention=self._attention)
        elif caption.error is None and not caption.withheld:
            element = {"image_id": coco_image_id(caption.path), "caption": caption.text}
        else:
            return
        self._stream.write(self._before + _json(element, self._stream))
        self._before = ",\n"

    def finish(self) -> None:
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")


class _Csv:
    """A row per caption, with exact values for programs to read back.

    Spreadsheet programs take a path that begins with `=`, `+`, `-` or `@` for a formula: import the columns of
    untrusted names as text.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._rows = csv.writer(stream, lineterminator="\n")
        self._rows.writerow(("path", "caption", "log_prob", "error", "confidence", "unsure"))

    def write(self, caption: Caption) -> None:
        path = _encodable(caption.path or "", self._stream)
        if caption.error is not None:
            self._rows.writerow((path, "", "", _encodable(str(caption.error), self._stream), "", ""))
        else:
            text = "" if caption.withheld else _encodable(caption.text, self._stream)
            confidence = "" if caption.confidence is None else round(caption.confidence, 4)
            unsure = "1" if caption.unsure else ""
            self._rows.writerow((path, text, round(caption.log_prob, 6), "", confidence, unsure))
        self._stream.flush()


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _encodable(text: str, stream: TextIO) -> str:
    """Escape the characters that the stream cannot encode, such as file names that are not UTF-8."""
    encoding = _encoding(stream)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _json(value: dict[str, Any], stream: TextIO) -> str:
    """One line of JSON, unescaped where the stream's encoding allows, else in ASCII; both parse alike."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(_encoding(stream))
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text
