"""Unpacking of packed data sets into photographs and a table; resumable, and nothing is overwritten."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captionlens.datasets.gathering import SINGLY, folders_below
from captionlens.datasets.packed import STATE, TABLE, Sample, packed_files, split_of_file
from captionlens.datasets.packed_names import PhotographNames
from captionlens.datasets.packed_parquet import import_pyarrow, parquet_samples
from captionlens.datasets.packed_tars import MOST_BYTES, tar_samples
from captionlens.datasets.records import Problem
from captionlens.datasets.table_form import TableForm
from captionlens.errors import DatasetError
from captionlens.fetch import alone_in
from captionlens.files import atomic_open, sync_folder, write_bytes, write_text
from captionlens.transfer import FreeBytes, free_disk

_PHOTOGRAPHS = "images"


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was unpacked, and what was not."""

    photographs: int
    captions: int
    repeated: int  # entries with the photograph of another one; their captions are that one's
    problems: tuple[Problem, ...]  # entries that were left out
    failed: tuple[DatasetError, ...]  # files that could not be unpacked; with any, there is no table yet


@dataclass(slots=True)
class _Part:
    """What came of one packed file."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # of the table, a caption each
    problems: list[Problem] = field(default_factory=list)
    repeated: int = 0


def unpack_dataset(
    source: str | Path,
    folder: str | Path,
    *,
    form: TableForm | None = None,
    free_bytes: FreeBytes = free_disk,
    progress: bool = False,
) -> Unpacked:
    """Unpack Parquet or webdataset's tars into `folder`: photographs in `images/`, and the table `captions.jsonl`.

    It may be killed and called again: files that are unpacked already are not read again. A photograph that several
    entries have is written once, and has the captions of all. The table is written when all files are unpacked.

    Args:
        source: a packed file, or a folder with packed files in it or in folders below it.
        folder: where to; it is empty, or was unpacked into from the same source before.
        form: names of the columns, and the encoding of texts in tars.
        free_bytes: measures the free disk space of a folder.
        progress: show a bar on stderr, on a terminal only.

    Raises:
        DatasetError: there is no packed file, the folder holds something else, or the disk is too small.
        MissingExtra: pyarrow is not installed, and Parquet is to be read.
    """
    # Links stay as they are: Hugging Face's cache has links with the files' names to files without.
    source, folder = (Path(os.path.abspath(path)) for path in (source, folder))  # noqa: PTH100
    files = packed_files(source)
    if not files:
        raise DatasetError(source, "holds no .tar and no .parquet" if source.exists() else "no such file or folder")
    if files[0].suffix.lower() == ".parquet":
        import_pyarrow()
    _claim(folder, source)
    try:
        with alone_in(folder / STATE, wait=False):
            return _Unpacking(source, folder, form or TableForm()).run(files, free_bytes, progress)
    except BlockingIOError as error:
        raise DatasetError(folder, "another process is unpacking into it") from error


def _claim(folder: Path, source: Path) -> None:
    """Make the folder, and note in it whose it is.

    Raises:
        DatasetError: it holds something else.
    """
    note = folder / STATE / "source.json"
    if note.is_file():
        other = json.loads(note.read_text("utf-8"))
        if other != str(source):
            raise DatasetError(folder, f"holds what was unpacked of {other}: choose another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(path.name != STATE for path in folder.iterdir())):
        raise DatasetError(folder, "is not empty: choose another folder")
    note.parent.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps(str(source)) + "\n")


class _Unpacking:
    """One call of `unpack_dataset`."""

    def __init__(self, source: Path, folder: Path, form: TableForm) -> None:
        self._source, self._folder, self._form = source, folder, form
        self._root = source if source.is_dir() else source.parent
        self._written: dict[str, str] = {}  # names of photographs by their SHA-256

    def run(self, files: list[Path], free_bytes: FreeBytes, progress: bool) -> Unpacked:
        """Unpack what is not yet, and write the table."""
        parts = {file: self._finished(file) for file in files}
        todo = [file for file, part in parts.items() if part is None]
        if todo and (self._folder / TABLE).exists():
            cause = "is unpacked already, and its source, its photographs or the options have changed since"
            raise DatasetError(self._folder, f"{cause}: unpack into another folder")
        self._check_room(todo, free_bytes)
        failed = []
        total, disable = sum(file.stat().st_size for file in todo), None if progress else True
        with tqdm(total=total, unit="B", unit_scale=True, desc="unpacking", disable=disable) as bar:
            for file in todo:
                try:
                    parts[file] = self._unpack(file)
                except DatasetError as error:
                    failed.append(error)
                bar.update(file.stat().st_size)
        done = [part for part in parts.values() if part is not None]
        if todo and not failed:
            with atomic_open(self._folder / TABLE) as table:
                for part in done:
                    table.writelines(_line({**row, "sha256": None}) for row in part.rows)
        return Unpacked(
            photographs=len(self._written),
            captions=sum(bool(row["caption"]) for part in done for row in part.rows),
            repeated=sum(part.repeated for part in done),
            problems=tuple(problem for part in done for problem in part.problems),
            failed=tuple(failed),
        )

    def _finished(self, file: Path) -> _Part | None:
        """What came of a packed file in an earlier call; None if it, or a photograph of it, is not as it was then."""
        try:
            head, *rows = map(json.loads, self._part_of(file).read_text("utf-8").splitlines())
        except (OSError, ValueError):
            return None
        # A photograph of no bytes is what a power cut leaves.
        photographs = {row["image"]: row["sha256"] for row in rows}
        whole = all(_size(self._folder / name) for name in photographs)
        if head["of"] != self._stamp(file) or not whole:
            return None
        self._written |= {digest: name for name, digest in photographs.items()}
        return _Part(rows, [Problem(**problem) for problem in head["problems"]], head["repeated"])

    def _unpack(self, file: Path) -> _Part:
        """Unpack one file.

        Raises:
            DatasetError: it is damaged or unsafe, or most of its entries cannot be used.
        """
        stamp, part = self._stamp(file), _Part()
        split = split_of_file(file, self._source)
        is_tar = file.suffix.lower() == ".tar"
        read = tar_samples(file, self._form) if is_tar else parquet_samples(file, self._root, self._form)
        names = PhotographNames(self._photographs_of(file))
        entries = 0
        for sample in read:
            entries += isinstance(sample, Sample)
            if isinstance(sample, Problem):
                part.problems.append(sample)
            elif len(sample.image) > MOST_BYTES:
                cause = f"the photograph has {len(sample.image):,} bytes, more than {MOST_BYTES:,}"
                part.problems.append(Problem(f"{file}, {sample.at}", cause, "malformed"))
            else:
                self._add(sample, names, part, split)
        if len(part.problems) > max(SINGLY, entries) or not entries:
            first = part.problems[0].cause if part.problems else "it has no photographs"
            raise DatasetError(file, f"{len(part.problems):,} of its entries cannot be used, {entries:,} can: {first}")
        self._flush(file)
        head = {"of": stamp, "repeated": part.repeated, "problems": [problem.to_dict() for problem in part.problems]}
        path = self._part_of(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_open(path) as lines:
            lines.writelines(_line(row) for row in (head, *part.rows))
        return part

    def _add(self, sample: Sample, names: "PhotographNames", part: _Part, split: str | None) -> None:
        """Write a photograph, unless it is there, and add its captions to the rows."""
        digest = hashlib.sha256(sample.image).hexdigest()
        if digest in self._written:
            part.repeated += 1
        else:
            path = names.new(sample)
            _write(path, sample.image)
            self._written[digest] = path.relative_to(self._folder).as_posix()
        own = {"split": split if sample.split in (None, "") else str(sample.split)}
        own["id"] = None if sample.id in (None, "") else str(sample.id)
        for caption in sample.captions or (None,):
            part.rows.append({"image": self._written[digest], "caption": caption, **own, "sha256": digest})

    def _check_room(self, todo: list[Path], free_bytes: FreeBytes) -> None:
        wanted = sum(file.stat().st_size for file in todo)
        wanted -= sum(_size(path) for file in todo for path in self._photographs_of(file).rglob("*"))
        if wanted > (free := free_bytes(self._folder)):
            raise DatasetError(self._folder, f"unpacking needs about {wanted:,} bytes, {free:,} are free")

    def _flush(self, file: Path) -> None:
        """Flush the photographs of a packed file to disk, before it is noted as done."""
        for folder in folders_below(str(self._photographs_of(file))):
            sync_folder(Path(folder))
        if hasattr(os, "sync"):
            os.sync()

    def _stamp(self, file: Path) -> dict[str, Any]:
        found = file.stat()
        columns = dict(sorted(self._form.columns.items()))
        return {
            "size": found.st_size,
            "changed": found.st_mtime_ns,
            "columns": columns,
            "encoding": self._form.encoding,
        }

    def _part_of(self, file: Path) -> Path:
        return self._folder / STATE / f"{file.relative_to(self._root)}.jsonl"

    def _photographs_of(self, file: Path) -> Path:
        return self._folder / _PHOTOGRAPHS / file.relative_to(self._root).with_suffix("")


def _write(path: Path, content: bytes) -> None:
    """Write a photograph atomically, unless the same is there from a call that was killed."""
    if _size(path) == len(content) and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)


def _size(path: Path) -> int:
    """Size of a file; 0 where there is none."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _line(row: dict[str, Any]) -> bytes:
    """A line of JSON, without empty values. A caption that JSON cannot hold is none, and 0 is told of as such."""
    values = {name: value for name, value in row.items() if value is not None or name == "caption"}
    return json.dumps(values, default=lambda _: 0).encode() + b"\n"
