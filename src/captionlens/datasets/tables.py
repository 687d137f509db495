"""Reader of tables: `.csv`, `.tsv`, `.jsonl` or `.json` with `image`, `caption`, and optionally `split` and `id`.

A row is a caption. Names of photographs are relative to the table's folder, or absolute. The column names of
Hugging Face's imagefolder, `file_name` and `text`, are accepted too, and LAVIS' lists of objects whose `caption` is one
or several.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from captionlens.datasets.gathering import Gathering
from captionlens.datasets.reading import is_damaged, read_json, read_lines, read_text
from captionlens.datasets.records import split_name
from captionlens.errors import DatasetError, OptionError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
_USUAL_STEMS = ("captions", "metadata")
_COLUMNS = {"image": "image", "file_name": "image", "caption": "caption", "text": "caption"}
_COLUMNS |= {"split": "split", "id": "id"}
_DELIMITERS = (",", ";", "\t", "|")
_NULL = "\\N"  # the form of NULL in exports of databases
_CELL_LIMIT = 1 << 20  # characters; a longer cell is an unclosed quote, not a caption


@dataclass(frozen=True, slots=True)
class TableForm:
    """Form of a table, as far as the table does not tell it.

    Args:
        delimiter: between the cells of a `.csv`; None: the one that makes columns of its first line.
        columns: names of columns by their roles, "image", "caption", "split" and "id", where they are not the usual.
        encoding: of the text; None: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        OptionError: the delimiter is not one character, a role is unknown, or the encoding is.
    """

    delimiter: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise OptionError(f"delimiter must be one character, got {self.delimiter!r}")
        for role in self.columns:
            if role not in _COLUMNS.values():
                raise OptionError(f"columns must name image, caption, split or id, got {role!r}")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except LookupError as error:
                raise OptionError(f"unknown encoding {self.encoding!r}") from error

    def role(self, column: str) -> str:
        """Role of a column; "" for one that is not used."""
        own = {name.strip().lower(): role for role, name in self.columns.items()}
        name = column.strip().lower()
        usual = _COLUMNS.get(name, "")
        return own.get(name, "" if usual in self.columns else usual)


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
        return opened.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


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
    suffix = file.suffix.lower()
    rows = {".jsonl": _json_lines, ".json": _json_list}.get(suffix, _rows)(file, gathering, form)
    there: set[tuple[str, str]] = set()
    twice = 0
    own_split = None if folder is None else split_name(folder)
    for at, row in rows:
        name, split = row.get("image"), own_split
        if not isinstance(name, str) or not name.strip():
            gathering.malformed(file, at, "no photograph named")
            continue
        name = name.strip()
        try:
            stated = row.get("split")
            split = split_name(str(stated)) if stated not in (None, "") else own_split
        except OptionError as error:
            gathering.bad_split(file, at, error)
            continue
        photograph = name if folder is None else f"{folder}/{name}"
        if not gathering.knows(photograph):
            stated = row.get("id")
            source_id = photograph if stated in (None, "") else str(stated)
            gathering.photograph(
                photograph, name, [root], file=file, at=at, source_id=source_id, split=split, absolute=True
            )
        captions = row.get("caption")
        for caption in captions if isinstance(captions, list) and suffix == ".json" else [captions]:
            key = (photograph, " ".join(str(caption).split()))
            if caption is not None and key in there:
                twice += 1
            else:
                gathering.caption(photograph, caption, file=file, at=at, split=split)
            there.add(key)
    if unnamed := gathering.count_unnamed():
        gathering.notes.append(f"{unnamed:,} photographs beside those of the table are in no row")
    if twice:
        gathering.notes.append(f"{twice:,} captions are there twice for one photograph, and count once")


Row = tuple[str, dict[str, object]]  # where it stands in the file, and its values by role


def _rows(file: Path, gathering: Gathering, form: TableForm) -> Iterator[Row]:
    """Rows of a `.csv` or `.tsv`."""
    text = read_text(file, form.encoding)
    delimiter = form.delimiter or ("\t" if file.suffix.lower() == ".tsv" else _delimiter(text, form))
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = _header(file, next(reader, []), form)
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
                yield f":{number}", {name: value for name, value in zip(header, values, strict=True) if name}
    finally:
        csv.field_size_limit(limit)


def _delimiter(text: str, form: TableForm) -> str:
    """The first delimiter that makes columns for photographs and captions of the first line, else a comma."""
    first = text.partition("\n")[0].rstrip("\r")
    for delimiter in _DELIMITERS:
        try:
            roles = {form.role(cell) for cell in next(csv.reader([first], delimiter=delimiter), [])}
        except csv.Error:
            continue
        if {"image", "caption"} <= roles:
            return delimiter
    return ","


def _header(file: Path, cells: list[str], form: TableForm) -> list[str]:
    """Role of each column; "" for columns that are not used."""
    header = [form.role(cell) for cell in cells]
    for column, other in (("image", "file_name"), ("caption", "text")):
        if header.count(column) != 1:
            there = ", ".join(cell.strip() or "(unnamed)" for cell in cells[:20]) or "none"
            how_many = "more than one" if column in header else "no"
            wanted, hint = _wanted(column, other, form), _hint(column, form)
            raise DatasetError(file, f"{how_many} {wanted}; its columns: {there}{hint}")
    return header


def _wanted(column: str, other: str, form: TableForm) -> str:
    return f"column {form.columns[column]!r}" if column in form.columns else f"column {column!r} (or {other!r})"


def _hint(column: str, form: TableForm) -> str:
    return "" if column in form.columns else f" (--columns {column}=NAME tells which it is)"


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
    content = read_json(file)
    if not isinstance(content, list):
        raise DatasetError(file, "want a list of objects, each with image and caption")
    objects = ((f", [{place}]", entry) for place, entry in enumerate(content))
    return _objects(file, objects, "want an object with image and caption", gathering, form)


def _objects(
    file: Path, objects: Iterator[tuple[str, object]], wanted: str, gathering: Gathering, form: TableForm
) -> Iterator[Row]:
    """Rows of JSON objects."""
    seen: set[str] = set()
    for at, row in objects:
        if not isinstance(row, dict):
            gathering.malformed(file, at, wanted)
            continue
        known = {form.role(str(name)): value for name, value in row.items()}
        seen.update(known)
        yield at, known
    for column, other in (("image", "file_name"), ("caption", "text")):
        if column not in seen:
            wanted = _wanted(column, other, form).removeprefix("column ")
            raise DatasetError(file, f"no line has {wanted}{_hint(column, form)}")
