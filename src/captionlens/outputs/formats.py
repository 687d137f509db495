"""Formats of captions: text, JSON, JSON lines, CSV and COCO results.

| format | a caption | a photograph that failed |
| --- | --- | --- |
| `text` | the caption; with several photographs `path<TAB>caption` | nothing |
| `json` | an element of one array, see `Caption.to_dict` | an element with `error` |
| `jsonl` | the same object on a line of its own | a line with `error` |
| `csv` | a row `path,caption,log_prob,error,confidence,unsure,size,modified` | a row with only path and error |
| `coco` | `{"image_id": ..., "caption": ...}` in one array | nothing: the format has no place for it |

A caption that the captioner is unsure of is marked: `text` writes "not sure: " before it, `json` and `jsonl` have
`"unsure": true`, `csv` a 1 in the column `unsure`; `coco` is for scorers and has the caption alone.

A caption can be withheld for its low confidence. Then `text` shows WITHHELD, `json` and `jsonl` give null for the
caption and the caption itself under `withheld`, `csv` leaves it empty, and `coco` writes nothing.

Where keywords are asked for, `json` and `jsonl` have a list `keywords`, `csv` a column with `;` between them.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, TextIO

from captionlens.errors import OptionError
from captionlens.outputs import FORMATS, Spreadsheet
from captionlens.outputs.keywords import SEPARATOR
from captionlens.outputs.sinks import STDIN, Sink
from captionlens.runtime.caption import Caption

WITHHELD = "[not sure: this captioner does not know this kind of photograph]"
# What spreadsheet programs compute (https://owasp.org/www-community/attacks/CSV_Injection), or have been kept from.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
CSV_COLUMNS = ("path", "caption", "log_prob", "error", "confidence", "unsure", "size", "modified")


class Format:
    """One format: the pieces that captions become, and what stands around them.

    Characters that the encoding lacks are written as escapes.

    Args:
        encoding: of the output.
    """

    head = between = tail = empty = ""  # before the first piece, between two, after the last, instead of none
    keywords = False  # whether every caption is to have them

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = encoding

    def piece(self, caption: Caption) -> str:
        """The text of one caption; nothing where the format has no place for it."""
        raise NotImplementedError

    def encodable(self, text: str) -> str:
        """Escape the characters that the encoding lacks, such as those of file names that are not UTF-8."""
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)


class Text(Format):
    """A line per caption; control characters in a path are escaped so that it stays one line.

    Args:
        many: whether lines begin with the path.
        encoding: of the output.
    """

    def __init__(self, many: bool, encoding: str = "utf-8") -> None:
        super().__init__(encoding)
        self._many = many

    def piece(self, caption: Caption) -> str:
        """A line."""
        if caption.error is not None:
            return ""
        line = WITHHELD if caption.withheld else caption.hedged
        if self._many:
            path = re.sub(r"[\x00-\x1f\x7f]", lambda found: repr(found[0])[1:-1], caption.path or STDIN)
            line = f"{path}\t{line}"
        return self.encodable(line + "\n")


class JsonLines(Format):
    """A JSON object per line.

    Args:
        attention: whether it has the maps.
        encoding: of the output.
        keywords: whether captions have keywords.
    """

    def __init__(self, attention: bool, encoding: str = "utf-8", keywords: bool = False) -> None:
        super().__init__(encoding)
        self._attention = attention
        self.keywords = keywords

    def piece(self, caption: Caption) -> str:
        """A line."""
        return self._json(caption.to_dict(attention=self._attention)) + "\n"

    def _json(self, value: dict[str, Any]) -> str:
        """One line of JSON, unescaped where the encoding allows, else in ASCII; both parse alike."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return json.dumps(value, allow_nan=False)
        return text


class JsonArray(JsonLines):
    """One JSON array, an element per line."""

    head, between, tail, empty = "[\n", ",\n", "\n]\n", "[]\n"

    def piece(self, caption: Caption) -> str:
        """An element."""
        return self._json(caption.to_dict(attention=self._attention))


class CocoResults(JsonArray):
    """The array that COCO's scorers read."""

    def piece(self, caption: Caption) -> str:
        """An element."""
        if caption.error is not None or caption.withheld:
            return ""
        return self._json({"image_id": coco_image_id(caption.path), "caption": caption.text})


class Csv(Format):
    """A row per caption, with exact values for programs to read back, or a table for spreadsheet programs.

    The latter has a byte order mark, by which they know UTF-8; text that they would take for a formula has `'` before
    it; and where cells stand between semicolons, numbers have a decimal comma: in the languages that write it, both are
    what spreadsheet programs expect.

    Args:
        encoding: of the output.
        spreadsheet: what stands between cells, for spreadsheet programs; None: commas, for others.
        keywords: whether there is a column of keywords, the last.
    """

    def __init__(self, encoding: str = "utf-8", spreadsheet: Spreadsheet | None = None, keywords: bool = False) -> None:
        super().__init__(encoding)
        self.keywords = keywords
        self.columns = (*CSV_COLUMNS, "keywords") if keywords else CSV_COLUMNS
        self.spreadsheet = spreadsheet
        self.delimiter = ";" if spreadsheet == "semicolon" else ","
        marked = spreadsheet is not None and codecs.lookup(encoding).name == "utf-8"
        self.head = self.empty = ("\ufeff" if marked else "") + self._row(*self.columns)

    def piece(self, caption: Caption) -> str:
        """A row."""
        path = self._text(caption.path or "")
        if caption.error is not None:
            return self._row(path, "", "", self._text(str(caption.error)), "", "", "", "", *[""] * self.keywords)
        text = "" if caption.withheld else self._text(caption.text)
        confidence = "" if caption.confidence is None else self._number(round(caption.confidence, 4))
        file = caption.file or {}
        values = (self._number(round(caption.log_prob, 6)), "", confidence, "1" if caption.unsure else "")
        keywords = [self._text(SEPARATOR.join(caption.keywords or ()))] if self.keywords else []
        return self._row(path, text, *values, file.get("size", ""), file.get("modified", ""), *keywords)

    def plain(self, cell: str) -> str:
        """The text of a cell, without what keeps it from being a formula."""
        return cell[1:] if self.spreadsheet and _FORMULA.match(cell) and cell.startswith("'") else cell

    def _text(self, text: str) -> str:
        text = self.encodable(text)
        return f"'{text}" if self.spreadsheet and _FORMULA.match(text) else text

    def _number(self, number: float) -> str:
        return str(number).replace(".", "," if self.spreadsheet == "semicolon" else ".")

    def _row(self, *values: Any) -> str:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self.delimiter, lineterminator="\n").writerow(values)
        return text.getvalue()


def format_of(
    name: str,
    *,
    many: bool,
    attention: bool = False,
    spreadsheet: Spreadsheet | None = None,
    encoding: str = "utf-8",
    keywords: bool = False,
) -> Format:
    """Make the format of a name in FORMATS.

    Args:
        name: of the format.
        many: whether more than one photograph may come; then `text` gives the path of each.
        attention: whether `json` and `jsonl` include the maps.
        spreadsheet: of `csv`, see `Csv`.
        encoding: of the output.
        keywords: whether `json`, `jsonl` and `csv` have keywords.

    Raises:
        OptionError: the format is not known, or is no table for spreadsheet programs.
    """
    if spreadsheet is not None and name != "csv":
        raise OptionError(f"tables for spreadsheet programs have the format csv, not {name}")
    if name == "text":
        return Text(many, encoding)
    if name == "json":
        return JsonArray(attention, encoding, keywords)
    if name == "jsonl":
        return JsonLines(attention, encoding, keywords)
    if name == "csv":
        return Csv(encoding, spreadsheet, keywords)
    if name == "coco":
        return CocoResults(False, encoding)
    raise OptionError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")


@contextmanager
def open_writer(
    format: str,
    stream: TextIO,
    *,
    many: bool,
    attention: bool = False,
    spreadsheet: Spreadsheet | None = None,
    keywords: bool = False,
) -> Iterator[Sink]:
    """Open a writer of captions in one of FORMATS; the end of the block completes the output.

    It flushes after every caption, so that a pipe sees each at once. When the block ends with an exception, an array
    of `json` or `coco` stays open: half a result does not pass for a whole one.

    Args:
        format, many, attention, spreadsheet, keywords: see `format_of`.
        stream: to write to; it stays open.

    Raises:
        OptionError: the format is not known.
        OSError: the stream cannot be written to.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    made = format_of(
        format, many=many, attention=attention, spreadsheet=spreadsheet, encoding=encoding, keywords=keywords
    )
    writer = _Writer(made, stream)
    yield writer
    writer.finish()


def coco_image_id(path: str | None) -> int | str:
    """Image id for COCO's results format, from the photograph's name.

    COCO names its files by their id, in 2017 `000000000139.jpg`, in 2014 `COCO_val2014_000000000139.jpg`. So a stem
    that is a number, or ends in `_` and twelve digits, gives that number. Any other stem is the id itself.
    """
    stem = PurePath(path or STDIN).stem
    named = re.fullmatch(r"(?:.*_(?=\d{12}$))?(\d+)", stem, re.ASCII)
    return int(named[1]) if named else stem


class _Writer:
    """A stream that gets the pieces as they come."""

    def __init__(self, format: Format, stream: TextIO) -> None:
        self._format, self._stream = format, stream
        self._begun = False

    def write(self, caption: Caption) -> None:
        piece = self._format.piece(caption)
        if piece:
            self._stream.write((self._format.between if self._begun else self._format.head) + piece)
            self._stream.flush()
            self._begun = True

    def finish(self) -> None:
        self._stream.write(self._format.tail if self._begun else self._format.empty)
        self._stream.flush()
