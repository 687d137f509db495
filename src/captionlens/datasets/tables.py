"""Reader of tables: `.csv`, `.tsv` or `.jsonl` with `image`, `caption`, and optionally `split` and `id`.

A row is a caption. Names of photographs are relative to the table's folder, or absolute. The column names of
Hugging Face's imagefolder, `file_name` and `text`, are accepted too.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from captionlens.datasets.gathering import Gathering
from captionlens.datasets.reading import is_damaged, read_lines, read_text
from captionlens.datasets.records import split_name
from captionlens.errors import DatasetError, OptionError

SUFFIXES = (".csv", ".tsv", ".jsonl")
_USUAL_STEMS = ("captions", "metadata")
_COLUMNS = {"image": "image", "file_name": "image", "caption": "caption", "text": "caption"}
_COLUMNS |= {"split": "split", "id": "id"}
_NULL = "\\N"  # the form of NULL in exports of databases
_CELL_LIMIT = 1 << 20  # characters; a longer cell is an unclosed quote, not a caption


def table_in(root: Path) -> Path | None:
    """The table a folder holds: the only one, or the only one called `captions` or `metadata`."""
    tables = sorted(file for file in root.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    usual = [file for file in tables if file.stem.lower() in _USUAL_STEMS]
    for some in (tables, usual):
        if len(some) == 1:
            return some[0]
    return None


def read_table(root: Path, file: Path, gathering: Gathering) -> None:
    """Read a table.

    Unusable rows are left out, and reported with file and line.

    Raises:
        DatasetError: the table is missing, has no column for photographs or for captions, or ends within a
            quoted cell.
    """
    rows = _json_rows(file, gathering) if file.suffix.lower() == ".jsonl" else _rows(file, gathering)
    for number, row in rows:
        at = f":{number}"
        name, split = row.get("image"), None
        if not isinstance(name, str) or not name.strip():
            gathering.malformed(file, at, "no photograph named")
            continue
        name = name.strip()
        try:
            stated = row.get("split")
            split = split_name(str(stated)) if stated not in (None, "") else None
        except OptionError as error:
            gathering.bad_split(file, at, error)
            continue
        if not gathering.knows(name):
            stated = row.get("id")
            source_id = name if stated in (None, "") else str(stated)
            gathering.photograph(name, name, [root], file=file, at=at, source_id=source_id, split=split, absolute=True)
        gathering.caption(name, row.get("caption"), file=file, at=at, split=split)


def _rows(file: Path, gathering: Gathering) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield line number and cells by column of a `.csv` or `.tsv`."""
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    text = read_text(file)
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = _header(file, next(reader, []))
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error) or "field larger" in str(error):
                    raise DatasetError(file, f"line {number}: an opening quote is never closed") from error
                gathering.malformed(file, f":{number}", str(error))
                continue
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()  # spreadsheets pad their rows
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                gathering.malformed(file, f":{number}", f"{len(cells)} cells where the header has {len(header)}")
            elif any(is_damaged(cell) for cell in cells):
                gathering.malformed(file, f":{number}", "not UTF-8")
            else:
                values = (None if cell.strip() == _NULL else cell for cell in cells)
                yield number, {name: value for name, value in zip(header, values, strict=True) if name}
    finally:
        csv.field_size_limit(limit)


def _header(file: Path, cells: list[str]) -> list[str]:
    """Role of each column; "" for columns that are not used."""
    header = [_COLUMNS.get(cell.strip().lower(), "") for cell in cells]
    for column, other in (("image", "file_name"), ("caption", "text")):
        if header.count(column) != 1:
            there = ", ".join(cell.strip() or "(unnamed)" for cell in cells[:20]) or "none"
            how_many = "no" if column not in header else "more than one"
            raise DatasetError(file, f"{how_many} column {column!r} (or {other!r}); its columns: {there}")
    return header


def _json_rows(file: Path, gathering: Gathering) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield line number and values by column of a `.jsonl`."""
    seen: set[str] = set()
    for number, line in read_lines(file):
        try:
            row = None if is_damaged(line) else json.loads(line)
        except json.JSONDecodeError as error:
            gathering.malformed(file, f":{number}", f"broken JSON at column {error.colno}: {error.msg}")
            continue
        except (ValueError, RecursionError) as error:
            gathering.malformed(file, f":{number}", f"unusable JSON: {error}")
            continue
        if not isinstance(row, dict):
            gathering.malformed(file, f":{number}", "want one JSON object a line, in UTF-8")
            continue
        known = {_COLUMNS.get(name.strip().lower(), ""): value for name, value in row.items()}
        seen.update(known)
        yield number, known
    for column, other in (("image", "file_name"), ("caption", "text")):
        if column not in seen:
            raise DatasetError(file, f"no line has {column!r} (or {other!r})")
