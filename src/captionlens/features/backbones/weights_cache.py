"""Cache of published weights, downloaded and verified at the first use."""

import os
from pathlib import Path

from captionlens.errors import DownloadError, WeightsError
from captionlens.fetch import Patience, alone_in, check_sum, fetch


def cache_folder() -> Path:
    """Path of the cache: `weights` in CAPTIONLENS_CACHE, or in ~/.cache/captionlens."""
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
    """Path of a file of weights, downloaded if it is not cached yet; a broken download is resumed.

    Args:
        name: the file's name in the cache.
        url: its published address (http or https).
        digest: its SHA-256 in hexadecimal, or the first digits where the publisher states no more.
        folder: the cache, by default `cache_folder()`.
        patience: limits of retrying; by default three attempts, a few seconds without a network.
        progress: show a bar on a terminal.

    Raises:
        WeightsError: the file cannot be downloaded or is not the published one; the message gives the remedy.
    """
    path = (folder or cache_folder()) / name
    checksum = f"sha256:{digest}"
    if _is_there(path, checksum):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(path.parent, wait=True):
            if not _is_there(path, checksum):  # another process may have downloaded it meanwhile
                fetch(url, path, checksum=checksum, patience=patience or Patience(attempts=3), progress=progress)
    except (DownloadError, OSError) as error:
        by_hand = f"Fetch {url} by other means and name the file: --backbone-weights FILE"
        raise WeightsError(path, f"cannot be downloaded ({error}). {by_hand}") from error
    return path


def _is_there(path: Path, checksum: str) -> bool:
    return path.is_file() and check_sum(path, checksum)
