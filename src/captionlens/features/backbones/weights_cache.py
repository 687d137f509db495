"""Published weights, downloaded at first use, checked, and kept."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from captionlens.errors import WeightsError
from captionlens.files import atomic_open, sha256

_CHUNK = 1 << 20  # bytes


def cache_folder() -> Path:
    """Where weights are kept: `weights` in CAPTIONLENS_CACHE, or in ~/.cache/captionlens."""
    configured = os.environ.get("CAPTIONLENS_CACHE")
    root = Path(configured) if configured else Path.home() / ".cache" / "captionlens"
    return root / "weights"


def cached_weights(
    name: str,
    url: str,
    digest: str,
    *,
    folder: Path | None = None,
    timeout: float = 30.0,
    progress: bool = True,
) -> Path:
    """The path of a file of weights, downloaded if it is not there yet.

    Args:
        name: the file's name in the cache.
        url: where it is published (http or https).
        digest: its SHA-256 in hexadecimal, or the first digits where the publisher states no more.
        folder: the cache, by default `cache_folder()`.
        timeout: seconds without an answer after which the download is given up.
        progress: show a bar on a terminal.

    Raises:
        WeightsError: the file cannot be downloaded or is not the published one; the message says what to do.
    """
    path = (folder or cache_folder()) / name
    if path.is_file() and sha256(path).startswith(digest):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, path, digest, timeout, progress)
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise WeightsError(path, f"cannot be downloaded ({reason}). {_by_hand(url)}") from error
    return path


def _download(url: str, path: Path, digest: str, timeout: float, progress: bool) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"not an http or https address: {url}")
    running = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=timeout) as answer, atomic_open(path) as file:
        length = answer.headers.get("Content-Length")
        total = int(length) if length else None
        bar = tqdm(
            total=total,
            desc=path.name,
            unit="B",
            unit_scale=True,
            disable=None if progress else True,
            leave=False,
        )
        received = 0
        with bar:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                running.update(chunk)
                received += len(chunk)
                bar.update(len(chunk))
        if total is not None and received != total:
            raise OSError(f"the connection broke after {received} of {total} bytes")
        if not running.hexdigest().startswith(digest):
            cause = f"{url} is not the published file: SHA-256 {running.hexdigest()}, not {digest}"
            raise WeightsError(path, f"{cause}. {_by_hand(url)}")


def _by_hand(url: str) -> str:
    return f"Fetch {url} by other means and name the file: --backbone-weights FILE"
