"""One file over HTTP, however often the connection breaks: resumed, checked, and there whole or not at all.

While it is under way the file is called `NAME.part`; beside it `NAME.part.json` keeps its address and the
validator (ETag or date) that makes a continued request safe (RFC 9110, sections 13.1.5 and 14).
"""

import errno
import hashlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from captionlens.errors import DownloadError
from captionlens.files import sync_folder, write_text

_CHUNK = 1 << 18
_USER_AGENT = "captionlens (+https://pypi.org/project/captionlens)"
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP answers worth another try

FreeBytes = Callable[[Path], int]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try."""

    attempts: int = 6  # in a row that bring nothing new
    backoff: float = 1.0  # seconds before the second attempt; doubled each time, one minute at most
    timeout: float = 30.0  # seconds without a byte until a connection counts as dead


@dataclass(frozen=True, slots=True)
class _Resume:
    """What `NAME.part.json` holds."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None  # bytes, as the server said

    @property
    def validator(self) -> str | None:
        """What If-Range takes: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class _PassingError(Exception):
    """This attempt failed; another may not."""


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to files, and never from https back to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or urlsplit(req.full_url).scheme == "https"):
            raise DownloadError(f"{req.full_url}: redirected to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def free_disk(folder: Path) -> int:
    """Free bytes where `folder` is or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
    patience: Patience | None = None,
    free_bytes: FreeBytes = free_disk,
    progress: bool = False,
) -> Path:
    """Download `url` to `target`; what an earlier call left in `target.part` is continued.

    Args:
        size: the published size in bytes; another one is refused.
        checksum: the published "md5:HEX" or "sha256:HEX".
        patience: how long to try; the defaults of `Patience` if None.
        free_bytes: how free disk is measured.
        progress: show a bar on stderr, on a terminal only.

    Raises:
        DownloadError: the file cannot be had, is not the published one, or does not fit on the disk; the
            message names address and cause. What was downloaded stays for the next call, unless it is wrong.
    """
    patience = patience or Patience()
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: only http and https are fetched")
    part = target.with_name(target.name + ".part")
    failures, best, delay = 0, _size(part), patience.backoff
    opener = urllib.request.build_opener(_HttpOnly)
    while True:
        try:
            _attempt(opener, url, part, size, checksum, patience.timeout, free_bytes, progress)
            break
        except _PassingError as error:
            # Whatever brings the file further counts as success; a server that makes us start anew does not.
            if _size(part) > best:
                failures, best, delay = 0, _size(part), patience.backoff
            failures += 1
            if failures >= patience.attempts:
                raise DownloadError(f"{url}: {error} (tried {failures} times)") from error
            time.sleep(delay)
            delay = min(delay * 2, 60.0)
        except OSError as error:
            raise DownloadError(f"{part}: {error.strerror or error}") from error
    _verify(url, part, size, checksum, progress)
    part.replace(target)
    _sidecar(part).unlink(missing_ok=True)
    sync_folder(target.parent)
    return target


def fetch_text(url: str, *, timeout: float = 30.0, limit: int = 1 << 20) -> str | None:
    """A small text file, or None where the server has none of that name (404).

    Raises:
        DownloadError: anything else went wrong.
    """
    request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT})
    try:
        with urllib.request.build_opener(_HttpOnly).open(request, timeout=timeout) as response:
            content: bytes = response.read(limit)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            return None
        raise DownloadError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {_cause(error)}") from error
    return content.decode("utf-8", errors="replace")


def check_sum(path: Path, checksum: str, *, progress: bool = False) -> bool:
    """Whether a file has the checksum "md5:HEX" or "sha256:HEX"."""
    algorithm, _, wanted = checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file, _bar(f"checking {path.name}", _size(path), 0, progress) as bar:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest() == wanted.lower()


def _attempt(
    opener: urllib.request.OpenerDirector,
    url: str,
    part: Path,
    size: int | None,
    checksum: str | None,
    timeout: float,
    free_bytes: FreeBytes,
    progress: bool,
) -> None:
    """One request. Returns when the part is complete as far as its length tells."""
    known = _load(part)
    offset = _size(part)
    safe = known is not None and known.url == url and (known.validator or checksum)
    if offset and not safe:
        part.unlink()
        offset = 0
    if known is not None and offset and offset == (size or known.total):
        return  # killed between the last byte and the renaming
    headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    if offset and known is not None:
        headers["Range"] = f"bytes={offset}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lies beyond our part: it is whole, or longer than the file
            ends_there = error.headers.get("Content-Range", "").endswith(f"/{offset}")
            if offset and ends_there and known is not None and known.total is None:
                return
            part.unlink(missing_ok=True)
            raise _PassingError("the server's file ends before the length it stated") from error
        if error.code in _PASSING:
            raise _PassingError(f"HTTP {error.code} {error.reason}") from error
        raise DownloadError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(_cause(error)) from error
    with response:
        offset, total = _agree(url, response, part, offset, known, size)
        if total is not None:
            _check_room(url, part, total - offset, free_bytes)
        _receive(response, part, offset, total, timeout, progress)


def _agree(
    url: str, response: Any, part: Path, offset: int, known: _Resume | None, size: int | None
) -> tuple[int, int | None]:
    """Where the answer goes on and how long the file is; refuses what is not the file that was begun."""
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
            raise _PassingError("the server's file has changed" if changed else "the server sent another range")
    else:
        length = headers.get("Content-Length")
        total = int(length) if length is not None and length.isdigit() else None
        offset = 0
        fresh = _Resume(url, headers.get("ETag"), headers.get("Last-Modified"), total)
        part.unlink(missing_ok=True)
        write_text(_sidecar(part), json.dumps(asdict(fresh)))
    if size is not None and total is not None and total != size:
        part.unlink(missing_ok=True)
        raise DownloadError(f"{url}: the server offers {total:,} bytes, the published file has {size:,}")
    return offset, total if total is not None else size


def _receive(response: Any, part: Path, offset: int, total: int | None, timeout: float, progress: bool) -> None:
    received = offset
    name = part.name.removesuffix(".part")
    try:
        with part.open("ab") as file, _bar(name, total, offset, progress) as bar:
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
        raise _PassingError(f"connection ended after {received:,} of {total:,} bytes")


def _read(response: Any, timeout: float) -> bytes:
    """The next bytes; none at the end, be it the file's or the connection's."""
    try:
        chunk: bytes = response.read1(_CHUNK)
    except http.client.IncompleteRead as error:
        raise _PassingError(f"connection ended early ({error})") from error
    except TimeoutError as error:
        raise _PassingError(f"no data for {timeout:g} seconds") from error
    except (ConnectionError, http.client.HTTPException) as error:
        raise _PassingError(_cause(error)) from error
    return chunk


def _verify(url: str, part: Path, size: int | None, checksum: str | None, progress: bool) -> None:
    cause = None
    if size is not None and _size(part) != size:
        cause = f"has {_size(part):,} bytes instead of {size:,}"
    elif checksum is not None and not check_sum(part, checksum, progress=progress):
        cause = f"does not have the published checksum {checksum}"
    if cause is not None:
        part.unlink()
        _sidecar(part).unlink(missing_ok=True)
        raise DownloadError(f"{url}: what was downloaded {cause}; it was deleted, run again to start anew")


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
        values = json.loads(_sidecar(part).read_text(encoding="utf-8"))
        return _Resume(values["url"], values["etag"], values["modified"], values["total"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sidecar(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _cause(error: BaseException) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


def _bar(name: str, total: int | None, initial: int, progress: bool) -> "tqdm[Any]":
    return tqdm(desc=name, total=total, initial=initial, unit="B", unit_scale=True, disable=None if progress else True)
