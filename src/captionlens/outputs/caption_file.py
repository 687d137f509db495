"""A file of captions that is continued run after run, each photograph's caption in it once.

While a run goes on, captions are appended to a journal beside FILE, `FILE.part`: a line of JSON for the options of the
run, then one for every photograph. At the end FILE is written from its former captions and the journal, atomically, and
the journal removed. A run that was killed leaves its journal, from which the next one goes on.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from captionlens import files
from captionlens.errors import FileError
from captionlens.outputs import OnExisting
from captionlens.outputs.formats import CocoResults, Csv, Format, JsonArray, JsonLines
from captionlens.outputs.sinks import STDIN
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph

_VERSION = 1  # of the journal's form


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where the caption of a photograph stands, in FILE or the journal."""

    source: IO[bytes]
    offset: int
    length: int
    file: Mapping[str, Any] | None  # size and time of the photograph, see `files.stamp`
    failed: bool
    complete: bool = True  # whether it has the keywords that are asked for

    def read(self) -> bytes:
        self.source.seek(self.offset)
        return self.source.read(self.length)


class CaptionFile:
    """A sink that writes FILE; made by `open_caption_file`."""

    def __init__(
        self,
        path: Path,
        format: Format,
        names: Sequence[str],
        journal: IO[bytes],
        options: Mapping[str, Any],
        batch: int,
    ) -> None:
        self._path, self._format, self._journal, self._batch = path, format, journal, batch
        self._names = {format.encodable(name): None for name in names}
        self._head = {"captionlens": _VERSION} | json.loads(json.dumps(options))
        self._former: dict[str, _Entry] = {}
        self._new: dict[str, _Entry] = {}
        self._waiting: list[bytes] = []
        self._written = 0
        self._replay()

    def has(self, photograph: Photograph) -> bool:
        """Whether there is a caption of the photograph as its file is now."""
        entry = self._entry(photograph.name)
        if entry is None or entry.failed or not entry.complete or photograph.name == STDIN:
            return False
        return same_file(entry.file, photograph.file)

    def write(self, caption: Caption) -> None:
        """Take one caption, or one with an error, which never replaces a caption.

        Captions reach the disk a batch at a time: a run that goes on then has the same batches as one undisturbed.

        Raises:
            FileError: the journal cannot be written.
        """
        name = caption.path or STDIN
        entry = self._entry(name)
        if caption.error is None or entry is None or entry.failed:
            known = caption.photograph
            if known is None or not self.has(known):
                record = {"path": name, "file": caption.file, "failed": caption.error is not None}
                line = json.dumps(record | {"piece": self._format.piece(caption)}) + "\n"
                self._waiting.append(line.encode())
        self._written += 1
        if self._written % self._batch == 0:
            self.flush()

    def flush(self) -> None:
        """Append what was taken to the journal.

        Raises:
            FileError: it cannot be written.
        """
        try:
            for line in self._waiting:
                self._append(line)
            self._waiting.clear()
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise FileError(self._journal.name, error.strerror or str(error)) from error

    def finish(self) -> None:
        """Write FILE: the photographs of this run in their order, then the others.

        Raises:
            FileError: it cannot be written.
        """
        self.flush()
        order = dict.fromkeys((*self._names, *self._former))
        try:
            if self._new or not self._path.exists():
                with files.atomic_open(self._path) as file:
                    file.writelines(self._whole(order))
        except OSError as error:
            raise FileError(self._path, error.strerror or str(error)) from error

    @property
    def others(self) -> list[str]:
        """Names of photographs that have a caption in FILE and are not of this run."""
        return [name for name in self._former if name not in self._names]

    def read_former(self, file: IO[bytes]) -> None:
        """Take over the captions that FILE has.

        Raises:
            FileError: it is not in the format.
        """
        for name, record, offset, length in _entries(self._path, file, self._format):
            complete = not self._format.keywords or "keywords" in record
            self._former[name] = _Entry(file, offset, length, record.get("file"), bool(record.get("error")), complete)

    def _entry(self, name: str) -> _Entry | None:
        name = self._format.encodable(name)
        return self._new.get(name) or self._former.get(name)

    def _whole(self, order: Mapping[str, None]) -> Iterator[bytes]:
        before = self._format.head
        for name in order:
            if (new := self._new.get(name)) is not None:
                piece = json.loads(new.read())["piece"].encode()
            elif name in self._former:
                piece = self._former[name].read()
            else:
                continue
            if piece:
                # A last line that a person wrote may lack its end.
                end = b"" if self._format.between or piece.endswith(b"\n") else b"\n"
                yield before.encode() + piece + end
                before = self._format.between
        begun = before is not self._format.head
        yield (self._format.tail if begun else self._format.empty).encode()

    def _append(self, line: bytes) -> None:
        if self._journal.seek(0, os.SEEK_END) == 0:
            self._journal.write((json.dumps(self._head) + "\n").encode())
        offset = self._journal.seek(0, os.SEEK_END)
        self._journal.write(line)
        self._remember(json.loads(line), offset, len(line))

    def _remember(self, record: dict[str, Any], offset: int, length: int) -> None:
        name = self._format.encodable(record["path"])
        self._new[name] = _Entry(self._journal, offset, length, record["file"], record["failed"])

    def _replay(self) -> None:
        """Read the journal of a run that was killed; a line cut short, and all behind it, is dropped.

        Raises:
            FileError: it is of a run with other options.
        """
        good = 0
        self._journal.seek(0)
        for number, line in enumerate(self._journal):
            try:
                record = json.loads(line)
                if number == 0:
                    self._check_options(record)
                else:
                    self._remember(record, good, len(line))
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
        self._journal.truncate(good)

    def _check_options(self, head: Mapping[str, Any]) -> None:
        other = [name for name in self._head if head.get(name) != self._head[name]]
        if other:
            then = ", ".join(f"{name} {head.get(name)}, now {self._head[name]}" for name in other)
            raise FileError(
                self._journal.name, f"is of an unfinished run with other options ({then}): repeat those, or delete it"
            )


@contextmanager
def open_caption_file(
    path: Path,
    format: Format,
    names: Sequence[str],
    *,
    on_existing: OnExisting = "skip",
    options: Mapping[str, Any],
    batch: int,
) -> Iterator[CaptionFile]:
    """Open a file of captions, which is complete at the end of the block; an exception leaves its journal.

    Args:
        path: of the file. `json`, `jsonl` and `csv` are continued, other formats replaced.
        format: of the captions.
        names: of the photographs in this run, in their order.
        on_existing: what to do with captions that are there: keep them (`skip`, `fill`), replace all, or refuse.
        options: of the run, plain values by their names; those of a run that goes on must be the same.
        batch: number of captions that reach the disk together.

    Raises:
        FileError: another process writes the file, it exists and must not, it is not in the format, its journal is of
            other options, or it cannot be written.
    """
    if on_existing == "error" and path.exists():
        raise FileError(path, "exists already")
    part = path.with_name(f"{path.name}.part")
    options = dict(options) | {"replaces all": on_existing == "overwrite"}
    with _locked(part) as journal:
        sink = CaptionFile(path, format, names, journal, options, batch)
        try:
            former = path.open("rb") if on_existing != "overwrite" and path.exists() and _continued(format) else None
        except OSError as error:
            raise FileError(path, error.strerror or str(error)) from error
        with former or io.BytesIO() as file:
            sink.read_former(file)
            yield sink
            sink.finish()
        part.unlink()


def same_file(then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> bool:
    """Whether a file is as it was, by its checksum where both have one, else by size and time.

    Captions of before versions that recorded neither count as of the file that is there.
    """
    if then is None or now is None:
        return True
    if "sha256" in then and "sha256" in now:
        return bool(then["sha256"] == now["sha256"])
    return all(str(then.get(name)) == str(now[name]) for name in ("size", "modified"))


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """Open the journal for this process alone."""
    with ExitStack() as stack:
        try:
            while True:
                journal = stack.enter_context(part.open("a+b"))
                files.lock(journal)
                if part.exists() and part.stat().st_ino == os.fstat(journal.fileno()).st_ino:
                    break
                journal.close()  # the process that had it before has just removed it
        except OSError as error:
            raise FileError(part, error.strerror or str(error)) from error
        try:
            yield journal
        finally:
            if part.exists() and not os.fstat(journal.fileno()).st_size:
                part.unlink()


def _continued(format: Format) -> bool:
    return isinstance(format, Csv | JsonLines) and not isinstance(format, CocoResults)


def _entries(path: Path, file: IO[bytes], format: Format) -> Iterator[tuple[str, dict[str, Any], int, int]]:
    """Yield of every caption in FILE: name, what it says, offset and length of its piece."""
    records = (
        _csv_records(file, format) if isinstance(format, Csv) else _json_records(file, isinstance(format, JsonArray))
    )
    for number, (record, offset, length) in enumerate(records, 1):
        if record is None or not isinstance(record.get("path"), str):
            cause = f"line {number} is no caption by captionlens"
            if number == 1 and isinstance(format, Csv):
                cause += f", or of other columns than {','.join(format.columns)}"
            raise FileError(path, f"{cause}: name another file, or replace it with --on-existing overwrite")
        yield format.encodable(record["path"]), record, offset, length


def _json_records(file: IO[bytes], array: bool) -> Iterator[tuple[dict[str, Any] | None, int, int]]:
    offset = 0
    for line in file:
        piece = line.rstrip(b",\n") if array else line
        if not (array and piece in (b"[", b"]", b"[]")):
            record = None
            with suppress(ValueError):
                record = json.loads(piece)
            yield record if isinstance(record, dict) else None, offset, len(piece)
        offset += len(line)


def _csv_records(file: IO[bytes], format: Csv) -> Iterator[tuple[dict[str, Any] | None, int, int]]:
    """Rows of a table, with where each stands: a cell in quotes may hold line ends."""
    columns: list[str] = []
    offset, row = 0, b""
    for line in file:
        row += line
        if row.count(b'"') % 2:
            continue
        cells = next(
            csv.reader(io.StringIO(row.decode("utf-8-sig", "replace"), newline=""), delimiter=format.delimiter), []
        )
        if not columns:
            columns = cells
            if tuple(columns) != format.columns:
                yield None, offset, len(row)
        elif len(cells) != len(columns):
            yield None, offset, len(row)
        else:
            record: dict[str, Any] = dict(zip(columns, map(format.plain, cells), strict=True))
            record["file"] = record if record.get("size") else None
            yield record, offset, len(row)
        offset, row = offset + len(row), b""
    if row:
        yield None, offset, len(row)
