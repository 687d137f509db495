"""Reader of tables: `.csv`, `.tsv`, `.jsonl` or `.json` with `image`, `caption`, and optionally `split` and `id`.

A row is a caption, or has several: as a list, or in numbered columns. Names of photographs are relative to the table's
folder or to `images` in it, or absolute.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from captionlens.datasets.caption_lists import captions_in
from captionlens.datasets.gathering import Gathering
from captionlens.datasets.reading import is_damaged, read_json, read_lines, read_text
from captionlens.datasets.records import split_name
from captionlens.datasets.table_form import Roles, TableForm
from captionlens.errors import DatasetError, OptionError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
_USUAL_STEMS = ("captions", "metadata")
_DELIMITERS = (",", ";", "\t", "|")
_EXCELS_FIRST_LINE = re.compile("sep=.", re.IGNORECASE)  # tells the delimiter
_PHOTOGRAPHS = ("images", "Images")  # folders in which photographs lie that a table names without a folder
_NULL = "\\N"  # the form of NULL in exports of databases
_CELL_LIMIT = 1 << 20  # characters; a longer cell is an unclosed quote, not a caption


def table_in(root: Path) -> Path | None:
    """The table a folder holds: the only one, or the only one called `captions` or `metadata`.

    A `.json` is taken for one only if it is a list, and there is no table of another kind.
    """
    files = sorted(file for file in root.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    tables = [file for file in files if file.suffix.lower() != ".json"]
    tables = tables or [file for file in files if is_list(file)]
    usual = [file for file in tables if file.stem.lower() in _USUAL_STEMS]
    for some in (tables, usual):
        if len(some) == 1:
            return some[0]
    return None


def is_list(file: Path) -> bool:
    """Whether a `.json` begins as a list."""
    with file.open("rb") as opened:
        begin = opened.read(1000)
    return begin.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"[")  # byte order marks, and UTF-16's zeros


def split_tables(root: Path) -> dict[str, Path]:
    """Tables in folders that are called like splits, as in Hugging Face's imagefolder, by the folders' names."""
    found = {}
    for folder in sorted(root.iterdir()):
        try:
            split_name(folder.name)
        except OptionError:
            continue
        table = table_in(folder) if folder.is_dir() else None
        if table is not None:
            found[folder.name] = table
    return found


def read_split_tables(root: Path, gathering: Gathering, form: TableForm | None = None) -> None:
    """Read the tables of `split_tables`; their photographs lie beside them.

    Raises:
        DatasetError: as of `read_table`.
    """
    for folder, file in split_tables(root).items():
        read_table(root / folder, file, gathering, form, folder=folder)


def read_table(
    root: Path, file: Path, gathering: Gathering, form: TableForm | None = None, *, folder: str | None = None
) -> None:
    """Read a table.

    Unusable rows are left out, and reported with file and line. Captions that a photograph has twice count once.

    Args:
        root: that names are relative to.
        file: the table.
        gathering: takes the photographs.
        form: what the table does not say of itself.
        folder: name of the table's folder, if it tells the split of its photographs.

    Raises:
        DatasetError: the table is missing or of another encoding, has no column for photographs or for captions, or
            ends within a quoted cell.
    """
    form = form or TableForm()
    rows = {".jsonl": _json_lines, ".json": _json_list}.get(file.suffix.lower(), _rows)(file, gathering, form)
    well_formed = sum(_read_row(root, file, gathering, folder, at, row) for at, row in rows)
    gathering.refuse_mostly_malformed(file, well_formed)


def _read_row(
    root: Path, file: Path, gathering: Gathering, folder: str | None, at: str, row: dict[str, object]
) -> bool:
    """Read one row, which has its values by role; return whether it is well formed."""
    name, split = row.get("image"), None if folder is None else split_name(folder)
    if not isinstance(name, str) or not name.strip():
        gathering.malformed(file, at, "no photograph named")
        return False
    name = name.strip()
    try:
        captions = captions_in(row.get("caption"))
    except ValueError as error:
        gathering.malformed(file, at, f"the caption of {name} {error}")
        return False
    stated = row.get("split")
    try:
        split = split if stated in (None, "") else split_name(str(stated))
    except OptionError as error:
        gathering.bad_split(file, at, error)
        return True
    key = name if folder is None else f"{folder}/{name}"
    if not gathering.knows(key):
        number = row.get("id")
        source_id = key if number in (None, "") else str(number)
        folders = [root, *(root / images for images in _PHOTOGRAPHS)]
        gathering.photograph(key, name, folders, file=file, at=at, source_id=source_id, split=split, absolute=True)
    for caption in captions:
        gathering.caption(key, caption, file=file, at=at, split=split, once=True)
    return True


Row = tuple[str, dict[str, object]]  # where it stands in the file, and its values by role


def _rows(file: Path, gathering: Gathering, form: TableForm) -> Iterator[Row]:
    """Rows of a `.csv` or `.tsv`."""
    text = read_text(file, form.encoding)
    first = text.partition("\n")[0].rstrip("\r")
    delimiter = form.delimiter or ("\t" if file.suffix.lower() == ".tsv" else None)
    if _EXCELS_FIRST_LINE.fullmatch(first):
        delimiter = delimiter or first[-1]
        text = text[len(first) :]  # the line end stays, so that lines keep their numbers
    delimiter = delimiter or _delimiter(text, form)
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = next((cells for cells in reader if any(map(str.strip, cells))), [])
        form.check_columns(file, header)
        roles = Roles(form)
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
                yield f":{number}", roles.values(zip(header, values, strict=True))
    finally:
        csv.field_size_limit(limit)


def _delimiter(text: str, form: TableForm) -> str:
    """The first delimiter that makes columns for photographs and captions of the first line, else a comma."""
    first = text.lstrip().partition("\n")[0].rstrip("\r")
    for delimiter in _DELIMITERS:
        try:
            roles = {form.role(cell) for cell in next(csv.reader([first], delimiter=delimiter), [])}
        except csv.Error:
            continue
        if {"image", "caption"} <= roles:
            return delimiter
    return ","


def _json_lines(file: Path, gathering: Gathering, form: TableForm) -> Iterator[Row]:
    """Rows of a `.jsonl`."""

    def objects() -> Iterator[tuple[str, object]]:
        for number, line in read_lines(file, form.encoding):
            try:
                yield f":{number}", None if is_damaged(line) else json.loads(line)
            except json.JSONDecodeError as error:
                gathering.malformed(file, f":{number}", f"broken JSON at column {error.colno}: {error.msg}")
            except (ValueError, RecursionError) as error:
                gathering.malformed(file, f":{number}", f"unusable JSON: {error}")

    return _objects(file, objects(), "want one JSON object a line, in UTF-8", gathering, form)


def _json_list(file: Path, gathering: Gathering, form: TableForm) -> Iterator[Row]:
    """Rows of a `.json`: a list of objects."""
    content = read_json(file, form.encoding)
    if not isinstance(content, list):
        raise DatasetError(file, "want a list of objects, each with image and caption")
    objects = ((f", [{place}]", entry) for place, entry in enumerate(content))
    return _objects(file, objects, "want an object with image and caption", gathering, form)


def _objects(
    file: Path, objects: Iterator[tuple[str, object]], wanted: str, gathering: Gathering, form: TableForm
) -> Iterator[Row]:
    """Rows of JSON objects."""
    roles = Roles(form)
    for at, row in objects:
        if isinstance(row, dict):
            yield at, roles.values(row.items())
        else:
            gathering.malformed(file, at, wanted)
    form.check_columns(file, roles.columns)
