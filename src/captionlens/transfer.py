"""One HTTP request of a download: it extends `NAME.part`, or begins it anew where the file has changed.

Beside the part, `NAME.part.json` keeps its address and the validator (ETag or date) that makes a range request safe
(RFC 9110, sections 13.1.5 and 14).
"""

import errno
import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from captionlens.errors import DownloadError
from captionlens.files import write_text

USER_AGENT = "captionlens (+https://pypi.org/project/captionlens)"

_CHUNK = 1 << 18
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP answers worth another try

FreeBytes = Callable[[Path], int]


@dataclass(frozen=True, slots=True)
class _Resume:
    """The content of `NAME.part.json`."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None  # bytes, as stated by the server

    @property
    def validator(self) -> str | None:
        """The value of If-Range: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class PassingError(Exception):
    """A failed request that is worth a retry."""


def free_disk(folder: Path) -> int:
    """Free bytes where `folder` is or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def try_once(
    opener: urllib.request.OpenerDirector,
    url: str,
    part: Path,
    size: int | None,
    checksum: str | None,
    timeout: float,
    free_bytes: FreeBytes,
    progress: bool,
) -> None:
    """Send one request for the rest of `part`; return when its length is that of the file.

    Args:
        opener: follows redirects, or refuses to.
        part: `NAME.part`, there or not.
        size, checksum, free_bytes, progress: see `fetch.fetch`.
        timeout: seconds without a byte until the connection counts as dead.

    Raises:
        PassingError: it failed, and a retry may succeed.
        DownloadError: it failed, and no retry will succeed.
    """
    known = _load(part)
    offset = size_of(part)
    safe = known is not None and known.url == url and (known.validator or checksum)
    if offset and not safe:
        part.unlink()
        offset = 0
    if known is not None and offset and offset == (size or known.total):
        return  # killed between the last byte and the renaming
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if offset and known is not None:
        headers["Range"] = f"bytes={offset}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # there is nothing beyond our part: it is whole, or longer than the file
            ends_there = error.headers.get("Content-Range", "").endswith(f"/{offset}")
            if offset and ends_there and known is not None and known.total is None:
                return
            part.unlink(missing_ok=True)
            raise PassingError("the server's file ends before the length it stated") from error
        if error.code in _PASSING:
            raise PassingError(f"HTTP {error.code} {error.reason}") from error
        raise DownloadError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise PassingError(cause_of(error)) from error
    with response:
        offset, total = _agree(url, response, part, offset, known, size)
        if total is not None:
            _check_room(url, part, total - offset, free_bytes)
        _receive(response, part, offset, total, timeout, progress)


def _agree(
    url: str, response: Any, part: Path, offset: int, known: _Resume | None, size: int | None
) -> tuple[int, int | None]:
    """Offset of the answer's first byte and length of the file; refuses a file other than the one begun."""
    headers = response.headers
    if response.status == 206:
        start, total = _content_range(headers.get("Content-Range"))
        fresh = _Resume(url, headers.get("ETag"), headers.get("Last-Modified"), total)
        changed = known is not None and (
            (known.etag and fresh.etag and known.etag != fresh.etag)
            or (known.total is not None and total is not None and known.total != total)
        )
        if changed or start != offset:
            part.unlink(missing_ok=True)
            raise PassingError("the server's file has changed" if changed else "the server sent another range")
    else:
        length = headers.get("Content-Length")
        total = int(length) if length is not None and length.isdigit() else None
        offset = 0
        fresh = _Resume(url, headers.get("ETag"), headers.get("Last-Modified"), total)
        part.unlink(missing_ok=True)
        write_text(notes_of(part), json.dumps(asdict(fresh)))
    if size is not None and total is not None and total != size:
        part.unlink(missing_ok=True)
        raise DownloadError(f"{url}: the server offers {total:,} bytes, the published file has {size:,}")
    return offset, total if total is not None else size


def _receive(response: Any, part: Path, offset: int, total: int | None, timeout: float, progress: bool) -> None:
    received = offset
    name = part.name.removesuffix(".part")
    try:
        with part.open("ab") as file, byte_bar(name, total, offset, progress) as bar:
            file.truncate(offset)
            while chunk := _read(response, timeout):
                file.write(chunk)
                received += len(chunk)
                bar.update(len(chunk))
                if total is not None and received > total:
                    break
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DownloadError(f"{part}: the disk is full after {received:,} bytes") from error
        raise
    if total is not None and received != total:
        if received > total:
            part.unlink()
        raise PassingError(f"connection ended after {received:,} of {total:,} bytes")


def _read(response: Any, timeout: float) -> bytes:
    """The next bytes; none at the end of the file or of the connection."""
    try:
        chunk: bytes = response.read1(_CHUNK)
    except http.client.IncompleteRead as error:
        raise PassingError(f"connection ended early ({error})") from error
    except TimeoutError as error:
        raise PassingError(f"no data for {timeout:g} seconds") from error
    except (ConnectionError, http.client.HTTPException) as error:
        raise PassingError(cause_of(error)) from error
    return chunk


def _check_room(url: str, part: Path, wanted: int, free_bytes: FreeBytes) -> None:
    free = free_bytes(part.parent)
    if wanted > free:
        raise DownloadError(f"{url}: needs {wanted:,} bytes in {part.parent}, {free:,} are free")


def _content_range(value: str | None) -> tuple[int, int | None]:
    """First byte and whole length from `bytes 100-199/200`; (-1, None) from anything else."""
    unit, _, rest = (value or "").partition(" ")
    span, _, total = rest.partition("/")
    start = span.partition("-")[0]
    if unit != "bytes" or not start.isdigit():
        return -1, None
    return int(start), int(total) if total.isdigit() else None


def _load(part: Path) -> _Resume | None:
    try:
        values = json.loads(notes_of(part).read_text(encoding="utf-8"))
        return _Resume(values["url"], values["etag"], values["modified"], values["total"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def notes_of(part: Path) -> Path:
    """Path of the notes about a part: `NAME.part.json`."""
    return part.with_name(part.name + ".json")


def size_of(path: Path) -> int:
    """Size of a file in bytes, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def cause_of(error: BaseException) -> str:
    """The cause of a failed connection, in a few words."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def byte_bar(name: str, total: int | None, initial: int, progress: bool) -> "tqdm[Any]":
    """A progress bar in bytes on stderr, on a terminal only."""
    return tqdm(desc=name, total=total, initial=initial, unit="B", unit_scale=True, disable=None if progress else True)
