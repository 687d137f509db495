"""Download of known data sets into a folder that `read_dataset` understands."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from captionlens.datasets.sources import SOURCES, Archive, Source, known_source, mirror, on_mirror, parse_sums
from captionlens.datasets.unpack import is_whole, unpack
from captionlens.errors import DownloadError
from captionlens.fetch import Patience, alone_in, check_sum, fetch, fetch_text
from captionlens.files import write_text
from captionlens.transfer import FreeBytes, free_disk

HOME_VARIABLE = "CAPTIONLENS_DATA_HOME"


@dataclass(frozen=True, slots=True)
class _Options:
    patience: Patience
    free_bytes: FreeBytes
    progress: bool
    keep_archives: bool


def download_dataset(
    name: str,
    folder: str | Path,
    *,
    keep_archives: bool = False,
    patience: Patience | None = None,
    free_bytes: FreeBytes = free_disk,
    progress: bool = False,
) -> Path:
    """Download a known data set into `folder`, check it, and unpack the files that captioning needs.

    It may be killed and called again: downloads are resumed, and complete archives are not downloaded again. An
    archive put into `folder` by hand is used instead of a download. If the environment variable
    `CAPTIONLENS_MIRROR` holds an address, everything is downloaded from there (`sources.on_mirror`).

    Args:
        name: "coco2014", "coco2017", "flickr8k" or "flickr30k".
        keep_archives: keep the zip files in `folder`; by default each is removed once it is unpacked.
        patience: limits of retrying; the defaults of `Patience` if None.
        free_bytes: measures the free disk space of a folder.
        progress: show bars on stderr, on a terminal only.

    Returns:
        `folder`.

    Raises:
        OptionError: no known data set has that name.
        DownloadError: it cannot be completed; the message gives the cause, and how to get the files by hand.
    """
    source = known_source(name)
    folder = Path(folder)
    if not source.archives:
        if not any((folder / mark).exists() for mark in source.marks):
            raise DownloadError(source.by_hand.format(folder=folder))
        return folder
    if all(_is_done(folder, archive) for archive in source.archives):
        return folder
    options = _Options(patience or Patience(), free_bytes, progress, keep_archives)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder, wait=False):
            _get_all(source, folder, options)
    except BlockingIOError as error:
        raise DownloadError(f"{folder}: another process is downloading into it") from error
    except OSError as error:
        raise DownloadError(f"{error.filename or folder}: {error.strerror or error}") from error
    return folder


def resolve_dataset(name_or_path: str | Path, *, data_home: str | Path | None = None, progress: bool = False) -> Path:
    """Path of a data set: a path is returned as it is; a known name is downloaded if it is missing.

    A file or folder of that name in the working folder takes precedence over the known name.

    Args:
        data_home: the folder of known data sets, each in a folder of its name; by default
            `CAPTIONLENS_DATA_HOME`, else `~/.cache/captionlens/data`.
        progress: show bars on stderr, on a terminal only.

    Raises:
        DownloadError: the data set cannot be downloaded.
    """
    path = Path(name_or_path)
    if str(name_or_path) not in SOURCES or path.exists():
        return path
    home = data_home or os.environ.get(HOME_VARIABLE) or Path.home() / ".cache" / "captionlens" / "data"
    return download_dataset(str(name_or_path), Path(home) / str(name_or_path), progress=progress)


def _get_all(source: Source, folder: Path, options: _Options) -> None:
    todo = [archive for archive in source.archives if not _is_done(folder, archive)]
    address = mirror()
    if address is not None:
        url = f"{address.rstrip('/')}/SHA256SUMS"
        sums = parse_sums(fetch_text(url, timeout=options.patience.timeout) or "", url)
        todo = [on_mirror(archive, address, sums) for archive in todo]
    _check_room(source, folder, todo, options.free_bytes)
    for archive in todo:
        zip_file = folder / archive.name
        if zip_file.exists():
            _check_own(zip_file, archive, options)
        else:
            try:
                _fetch_zip(archive, zip_file, options)
            except DownloadError as error:
                raise DownloadError(f"{error}\n{_by_hand(source, folder)}") from error
        _unpack_zip(archive, zip_file, folder, options)


def _fetch_zip(archive: Archive, zip_file: Path, options: _Options) -> None:
    fetch(
        archive.url,
        zip_file,
        size=archive.size,
        checksum=archive.checksum,
        patience=options.patience,
        free_bytes=options.free_bytes,
        progress=options.progress,
    )
    if not is_whole(zip_file):
        zip_file.unlink()
        raise DownloadError(f"{archive.url}: what the server sent is not a whole zip file; it was deleted")


def _unpack_zip(archive: Archive, zip_file: Path, folder: Path, options: _Options) -> None:
    into = folder / archive.into
    files = unpack(zip_file, into, wants=archive.wants, free_bytes=options.free_bytes, progress=options.progress)
    done = {"archive": archive.url, "files": len(files), "first": str(files[0].relative_to(folder))}
    write_text(_marker(folder, archive), json.dumps(done) + "\n")
    if not options.keep_archives:
        zip_file.unlink()


def _check_own(zip_file: Path, archive: Archive, options: _Options) -> None:
    """Check an archive that exists already, put there by hand or left by an interrupted unpacking."""
    size = zip_file.stat().st_size
    if archive.size is not None and size != archive.size:
        raise DownloadError(f"{zip_file}: has {size:,} bytes instead of {archive.size:,}; delete it")
    if archive.checksum and not check_sum(zip_file, archive.checksum, progress=options.progress):
        raise DownloadError(f"{zip_file}: does not have the published checksum; delete it")


def _check_room(source: Source, folder: Path, todo: list[Archive], free_bytes: FreeBytes) -> None:
    """Refuse early if the disk is too small, as far as sizes are published.

    The files needed of an archive take about the archive's size. At worst the largest archive is there packed and
    unpacked at the same time.
    """
    sizes = [archive.size for archive in todo if archive.size is not None]
    if not sizes:
        return
    there = sum(
        file.stat().st_size
        for archive in todo
        for file in (folder / archive.name, folder / f"{archive.name}.part")
        if file.exists()
    )
    wanted = sum(sizes) + max(sizes) - there
    free = free_bytes(folder)
    if wanted > free:
        raise DownloadError(f"{source.name} needs about {wanted:,} bytes in {folder}, {free:,} are free")


def _by_hand(source: Source, folder: Path) -> str:
    urls = "".join(f"\n  {archive.url}" for archive in source.archives if not _is_done(folder, archive))
    return f"Run again to go on. Or get these files by hand, put them into {folder} and run again:{urls}"


def _marker(folder: Path, archive: Archive) -> Path:
    return folder / f".{archive.name}.complete"


def _is_done(folder: Path, archive: Archive) -> bool:
    try:
        done = json.loads(_marker(folder, archive).read_text(encoding="utf-8"))
        return (folder / str(done["first"])).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False
