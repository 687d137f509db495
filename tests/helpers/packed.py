"""Data sets packed in Parquet and in tars, and what comes of them."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from captionlens.datasets import read_dataset
from helpers.download import small_photograph

arrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
parquet = pytest.importorskip("pyarrow.parquet")

Member = tuple[str | tarfile.TarInfo, bytes | str]  # name and content


def write_parquet(file: Path, rows: list[dict[str, Any]], schema: Any = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), file, row_group_size=3)
    return file


def write_tar(file: Path, members: list[Member]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            raw = content.encode() if isinstance(content, str) else content
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(raw) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(raw))
    return file


def image(number: int, path: str | None = None) -> dict[str, Any]:
    return {"bytes": small_photograph(number), "path": path}


def found(folder: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Split and captions of each photograph of a folder that was unpacked into."""
    dataset = read_dataset(folder)
    assert dataset.layout == "table"
    return {
        record.image.relative_to(folder / "images").as_posix(): (record.split, record.captions)
        for record in dataset.records
    }


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
