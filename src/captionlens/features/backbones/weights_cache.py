"""Published weights, downloaded at first use, checked, and kept."""

import os
from pathlib import Path

from captionlens.errors import DownloadError, WeightsError
from captionlens.fetch import Patience, alone_in, check_sum, fetch


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
    patience: Patience | None = None,
    progress: bool = True,
) -> Path:
    """The path of a file of weights, downloaded if it is not there yet; a download that broke off is continued.

    Args:
        name: the file's name in the cache.
        url: where it is published (http or https).
        digest: its SHA-256 in hexadecimal, or the first digits where the publisher states no more.
        folder: the cache, by default `cache_folder()`.
        patience: how long to try; by default three attempts, a few seconds where there is no network.
        progress: show a bar on a terminal.

    Raises:
        WeightsError: the file cannot be downloaded or is not the published one; the message says what to do.
    """
    path = (folder or cache_folder()) / name
    checksum = f"sha256:{digest}"
    if _is_there(path, checksum):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(path.parent, wait=True):
            if not _is_there(path, checksum):  # another process may have brought it meanwhile
                fetch(url, path, checksum=checksum, patience=patience or Patience(attempts=3), progress=progress)
    except (DownloadError, OSError) as error:
        by_hand = f"Fetch {url} by other means and name the file: --backbone-weights FILE"
        raise WeightsError(path, f"cannot be downloaded ({error}). {by_hand}") from error
    return path


def _is_there(path: Path, checksum: str) -> bool:
    return path.is_file() and check_sum(path, checksum)
