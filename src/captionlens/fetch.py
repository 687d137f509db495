"""Download of one file over HTTP: resumed after broken connections, verified, and renamed only when complete.

An incomplete file is called `NAME.part`; see `transfer`.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from captionlens.errors import DownloadError
from captionlens.files import sync_folder
from captionlens.transfer import (
    USER_AGENT,
    FreeBytes,
    PassingError,
    byte_bar,
    cause_of,
    free_disk,
    notes_of,
    size_of,
    try_once,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits of retrying a download."""

    attempts: int = 6  # in a row without a new byte
    backoff: float = 1.0  # seconds before the second attempt; doubled each time, one minute at most
    timeout: float = 30.0  # seconds without a byte until a connection counts as dead


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never to local files and never from https back to http."""

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
        checksum: the published "md5:HEX" or "sha256:HEX"; its first digits where the publisher states no more.
        patience: how long to try; the defaults of `Patience` if None.
        free_bytes: measures the free disk space of a folder.
        progress: show a bar on stderr, on a terminal only.

    Raises:
        DownloadError: the file cannot be downloaded, is not the published one, or does not fit on the disk; the
            message names address and cause. The part is kept for the next call, unless it is wrong.
    """
    patience = patience or Patience()
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url}: only http and https are fetched")
    part = target.with_name(target.name + ".part")
    failures, best, delay = 0, size_of(part), patience.backoff
    opener = urllib.request.build_opener(_HttpOnly)
    while True:
        try:
            try_once(opener, url, part, size, checksum, patience.timeout, free_bytes, progress)
            break
        except PassingError as error:
            # Whatever brings the file further counts as success; a server that makes us start anew does not.
            if size_of(part) > best:
                failures, best, delay = 0, size_of(part), patience.backoff
            failures += 1
            if failures >= patience.attempts:
                raise DownloadError(f"{url}: {error} (tried {failures} times)") from error
            time.sleep(delay)
            delay = min(delay * 2, 60.0)
        except OSError as error:
            raise DownloadError(f"{part}: {error.strerror or error}") from error
    _verify(url, part, size, checksum, progress)
    part.replace(target)
    notes_of(part).unlink(missing_ok=True)
    sync_folder(target.parent)
    return target


def fetch_text(url: str, *, timeout: float = 30.0, limit: int = 1 << 20) -> str | None:
    """Download a small text file; None where the server has none of that name (404).

    Raises:
        DownloadError: anything else went wrong.
    """
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
    try:
        with urllib.request.build_opener(_HttpOnly).open(request, timeout=timeout) as response:
            content: bytes = response.read(limit)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            return None
        raise DownloadError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {cause_of(error)}") from error
    return content.decode("utf-8", errors="replace")


def check_sum(path: Path, checksum: str, *, progress: bool = False) -> bool:
    """Whether a file has the checksum "md5:HEX" or "sha256:HEX", or one with these first digits."""
    return _digest(path, checksum, progress).startswith(_digits(checksum))


@contextmanager
def alone_in(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock between processes for the length of a block: two must not write to one `.part`.

    Args:
        folder: holds the lock, `.lock`. The system releases it when its process ends, even a killed one.
        wait: wait for another process to release the lock.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
    """
    try:
        import fcntl
    except ImportError:  # Windows: there the second process cannot open the `.part`
        yield
        return
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _digest(path: Path, checksum: str, progress: bool) -> str:
    """Digest of a file by the algorithm of `checksum`, in hexadecimal."""
    digest = hashlib.new(checksum.partition(":")[0], usedforsecurity=False)
    with path.open("rb") as file, byte_bar(f"checking {path.name}", size_of(path), 0, progress) as bar:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _digits(checksum: str) -> str:
    return checksum.partition(":")[2].lower()


def _verify(url: str, part: Path, size: int | None, checksum: str | None, progress: bool) -> None:
    cause = None
    if size is not None and size_of(part) != size:
        cause = f"has {size_of(part):,} bytes instead of {size:,}"
    elif checksum is not None and not (found := _digest(part, checksum, progress)).startswith(_digits(checksum)):
        algorithm = checksum.partition(":")[0]
        cause = f"has the checksum {algorithm}:{found}, not the published checksum {checksum}"
    if cause is not None:
        part.unlink()
        notes_of(part).unlink(missing_ok=True)
        raise DownloadError(f"{url}: what was downloaded {cause}; it was deleted, run again to start anew")
