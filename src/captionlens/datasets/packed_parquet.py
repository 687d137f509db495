"""Reader of Parquet with photographs in it, as Hugging Face's `datasets` writes it.

The photographs are a column of structs with `bytes` and `path`, of bytes, or of names of files; the captions are texts,
lists of texts, or numbered columns.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from captionlens.datasets.caption_lists import captions_in
from captionlens.datasets.packed import Sample, check_pointer
from captionlens.datasets.reading import Folders, OutsideRootError
from captionlens.datasets.records import Problem
from captionlens.datasets.table_form import Roles, TableForm
from captionlens.errors import DatasetError, MissingExtra

_ROWS = 16  # that are in memory as Python's objects at a time
_BUFFER = 1 << 20  # bytes; without one, a whole row group is read at once


def import_pyarrow() -> Any:
    """The module `pyarrow` with `pyarrow.parquet`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet") from error
    return pyarrow


def parquet_samples(file: Path, folder: Path, form: TableForm) -> Iterator[Sample | Problem]:
    """Yield the photographs of a file with their captions, and what cannot be used; a page is in memory at a time.

    Args:
        file: the Parquet.
        folder: of the data set; where a row has the name of a photograph only, it lies here or beside the Parquet.
        form: names of the columns.

    Raises:
        DatasetError: the file is damaged, or has no column for photographs or for captions.
        MissingExtra: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    check_pointer(file)
    photographs, roles, number = Folders(folder), Roles(form), 0
    try:
        with arrow.parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False) as opened:
            columns = _columns(file, opened.schema_arrow, form)
            for batch in opened.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield _sample(file, number, roles.values(row.items()), photographs, folder)
    except (arrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DatasetError(file, f"damaged or cut off, after {number:,} rows ({reason})") from error


def _columns(file: Path, schema: Any, form: TableForm) -> list[str]:
    """The columns to read. Of two that could be photographs, one that contains them goes before one of names."""
    images = [field for field in schema if form.role(field.name) == "image"]
    with_bytes = [field.name for field in images if str(field.type).startswith(("struct", "binary", "large_binary"))]
    names_only = [field.name for field in images if field.name not in with_bytes] if with_bytes else []
    names = [name for name in schema.names if name not in names_only]
    form.check_columns(file, names)
    return [name for name in names if form.role(name)]


def _sample(file: Path, number: int, values: dict[str, Any], photographs: Folders, folder: Path) -> Sample | Problem:
    at = f"row {number:,}"
    image = values.get("image")
    content, name = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
    try:
        captions = tuple(captions_in(values.get("caption")))
        if isinstance(content, str) or (content is None and name):
            name = str(content or name)
            content = _read(name, photographs, [file.parent, folder])
    except (ValueError, OSError) as error:
        return Problem(f"{file}, {at}", str(error), "malformed")
    if not isinstance(content, bytes) or not content:
        return Problem(f"{file}, {at}", "no photograph", "malformed")
    return Sample(at, str(name or ""), content, captions, values.get("split"), values.get("id"))


def _read(name: str, photographs: Folders, folders: list[Path]) -> bytes:
    if name.lower().startswith(("http://", "https://")):
        raise ValueError(f"the photograph is an address, and nothing is downloaded from there: {name}")
    try:
        path = photographs.find(name, folders)
    except OutsideRootError:
        raise ValueError(f"photograph {name!r} leads out of the data set's folder") from None
    if path is None:
        raise ValueError(f"photograph {name} is absent")
    return path.read_bytes()
