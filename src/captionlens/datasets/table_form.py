"""Form of a table: delimiter, encoding, and the roles of its columns, image, caption, split and id."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from captionlens.errors import DatasetError, OptionError
from captionlens.runtime import EXTENSIONS

# Besides the usual names those of Hugging Face's imagefolder, `file_name` and `text`.
_COLUMNS = {"image": "image", "file_name": "image", "caption": "caption", "captions": "caption", "text": "caption"}
_COLUMNS |= {"split": "split", "id": "id"}
_NUMBERED = re.compile(r"caption[ _-]?\d+")  # caption_0, caption_1: a photograph's captions side by side


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
        usual = "caption" if _is_numbered(name) else _COLUMNS.get(name, "")
        return own.get(name, "" if usual in self.columns else usual)

    def check_columns(self, file: Path, columns: Iterable[str]) -> None:
        """Check that a table has one column for photographs and one for captions, or several that are numbered.

        Args:
            file: the table, for messages.
            columns: their names.

        Raises:
            DatasetError: a column is missing, or there are several; the message names the columns.
        """
        names = [name.strip() for name in columns]
        counts = Counter(self.role(name) for name in names if not _is_numbered(name))
        numbered = any(self.role(name) == "caption" for name in names if _is_numbered(name))
        for role, other in (("image", "file_name"), ("caption", "text")):
            count = counts[role] + (numbered and role == "caption")
            if count == 1:
                continue
            there = ", ".join(name or "(unnamed)" for name in names[:20]) or "none"
            wanted = f"column {self.columns[role]!r}" if role in self.columns else f"column {role!r} (or {other!r})"
            hint = "" if role in self.columns else f" (--columns {role}=NAME tells which it is)"
            if any(Path(name).suffix.lower() in EXTENSIONS for name in names):
                hint = "; it seems to have no header: write a line such as image,caption above the others"
            raise DatasetError(file, f"{'more than one' if count else 'no'} {wanted}; its columns: {there}{hint}")


class Roles:
    """Roles of the columns of one table; each column is looked up once."""

    def __init__(self, form: TableForm) -> None:
        self._form = form
        self._roles: dict[str, tuple[str, bool]] = {}  # of each column its role, and whether it is a numbered caption

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns so far, in their order."""
        return tuple(self._roles)

    def values(self, row: Iterable[tuple[str, object]]) -> dict[str, object]:
        """Values of a row by their roles; numbered captions as one list, without empty ones."""
        values: dict[str, object] = {}
        captions: list[object] = []
        for name, value in row:
            if name not in self._roles:
                self._roles[name] = self._form.role(name), _is_numbered(name)
            role, numbered = self._roles[name]
            if role == "caption" and numbered:
                captions += [] if value in (None, "") else [value]
                values["caption"] = captions
            elif role:
                values[role] = value
        return values


def _is_numbered(column: str) -> bool:
    return _NUMBERED.fullmatch(column.strip().lower()) is not None
