"""Files written atomically (to a temporary file in the same folder, flushed to disk, renamed), locked, compared."""

import hashlib
import os
import platform
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from captionlens.errors import FileError

# Before the names of temporary files: of this machine, for a folder on a network has processes of others.
_OURS = f".captionlens-{zlib.crc32(platform.node().encode()):08x}-"
_swept: set[Path] = set()


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; on success it is flushed and renamed to `path`.

    On an exception the temporary file is removed and `path` stays as it was. What a process that was killed left is
    removed by the next one that writes into the folder. A link is followed; a pipe or a device, /dev/stdout say, is
    written to as it is.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    _sweep(path.parent)
    # Of one length, since names may be as long as a file system allows.
    temporary = path.with_name(f"{_OURS}{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}.tmp")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def atomic_open(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Yield a binary file to write to, which becomes `path` when the block ends without an exception."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_open(path) as file:
        file.write(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write `content` to `path` as UTF-8, atomically."""
    write_bytes(path, content.encode())


def _sweep(folder: Path) -> None:
    """Remove the temporary files of this machine's processes that have ended; each process looks once into a folder."""
    if folder in _swept:
        return
    _swept.add(folder)
    for leftover in folder.glob(f"{_OURS}*.tmp"):
        process = leftover.name.split(".")[-2]
        if process.isdecimal() and not _runs(int(process)):
            leftover.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename inside it survives a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: str | os.PathLike[str], *, checksum: bool = False) -> dict[str, Any]:
    """Facts that tell whether a file has changed, as plain values: `size` (bytes), `modified` (UTC), perhaps `sha256`.

    Args:
        path: of the file.
        checksum: read the file for its SHA-256.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    found = os.stat(path)  # noqa: PTH116 (called for every file)
    seconds, rest = divmod(found.st_mtime_ns, 10**9)
    try:
        modified = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (ValueError, OverflowError):  # file systems keep times that no calendar has
        modified = str(found.st_mtime_ns)
    facts: dict[str, Any] = {"size": found.st_size, "modified": modified}
    return facts | {"sha256": sha256(path)} if checksum else facts


def lock(file: IO[bytes]) -> None:
    """Lock an open file for this process until it is closed.

    The lock ends with the process. On Windows, which has none of this kind, nothing is locked.

    Raises:
        FileError: another process has it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileError(file.name, "another captionlens is writing it: wait for its end") from error
