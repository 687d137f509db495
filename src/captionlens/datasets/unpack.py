"""Safe and resumable unpacking of untrusted zip archives."""

import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from captionlens.errors import DownloadError
from captionlens.files import sync_folder
from captionlens.transfer import FreeBytes, free_disk

# Photographs hardly shrink and JSON shrinks to a tenth; deflate's limit, which bombs use, is 1,032.
MOST_EXPANSION = 100
HARMLESS = 16 << 20  # bytes; smaller archives never count as a bomb

_CHUNK = 1 << 18


def unpack(
    archive: Path,
    folder: Path,
    *,
    wants: Callable[[str], bool] = lambda name: True,
    free_bytes: FreeBytes = free_disk,
    progress: bool = False,
) -> list[Path]:
    """Unpack the files of a zip that `wants` accepts; existing files of the right size are kept.

    Every file is written atomically, and its CRC is checked.

    Raises:
        DownloadError: the archive is damaged or truncated, holds a name that leads out of `folder`, a link or an
            encrypted file, looks like a zip bomb, holds no wanted file, or does not fit on the disk. Nothing is
            written if the fault is in the archive's directory.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            for entry in entries:
                _refuse_unsafe(archive, entry)
            chosen = [entry for entry in entries if not entry.is_dir() and wants(entry.filename)]
            if not chosen:
                raise DownloadError(f"{archive}: holds none of the files that are wanted")
            _refuse_bomb(archive, chosen)
            targets = [folder / entry.filename for entry in chosen]
            if len(set(targets)) != len(targets):
                raise DownloadError(f"{archive}: holds two files of the same name")
            missing = [
                (entry, target)
                for entry, target in zip(chosen, targets, strict=True)
                if not _is_there(target, entry.file_size)
            ]
            _check_room(archive, folder, sum(entry.file_size for entry, _ in missing), free_bytes)
            _write_all(opened, missing, archive, progress)
            return targets
    except zipfile.BadZipFile as error:
        raise DownloadError(f"{archive}: damaged or cut off ({error})") from error
    except (zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DownloadError(f"{archive}: cannot be unpacked ({error})") from error
    except OSError as error:
        where = error.filename or archive
        raise DownloadError(f"{where}: {error.strerror or error}") from error


def is_whole(archive: Path) -> bool:
    """Whether a zip has its directory, which is at its end, and every entry begins inside the file."""
    try:
        with zipfile.ZipFile(archive) as opened:
            size = archive.stat().st_size
            return all(entry.header_offset + entry.compress_size <= size for entry in opened.infolist())
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return False


def _refuse_unsafe(archive: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise DownloadError(f"{archive}: refused, it holds a name that leads elsewhere: {name!r}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DownloadError(f"{archive}: refused, it holds a link or a device: {name!r}")
    if entry.flag_bits & 0x1:
        raise DownloadError(f"{archive}: refused, it holds an encrypted file: {name!r}")


def _refuse_bomb(archive: Path, chosen: list[zipfile.ZipInfo]) -> None:
    declared = sum(entry.file_size for entry in chosen)
    if declared > max(HARMLESS, MOST_EXPANSION * archive.stat().st_size):
        raise DownloadError(f"{archive}: refused, {archive.stat().st_size:,} bytes would become {declared:,} (a bomb?)")


def _check_room(archive: Path, folder: Path, wanted: int, free_bytes: FreeBytes) -> None:
    free = free_bytes(folder)
    if wanted > free:
        raise DownloadError(f"{archive}: unpacking needs {wanted:,} bytes in {folder}, {free:,} are free")


def _is_there(target: Path, size: int) -> bool:
    try:
        found = target.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def _write_all(
    opened: zipfile.ZipFile, missing: list[tuple[zipfile.ZipInfo, Path]], archive: Path, progress: bool
) -> None:
    folders: set[Path] = set()
    total = sum(entry.file_size for entry, _ in missing)
    bar: tqdm[Any] = tqdm(
        desc=f"unpacking {archive.name}",
        total=total,
        unit="B",
        unit_scale=True,
        disable=None if progress else True,
    )
    with bar:
        for entry, target in missing:
            if target.parent not in folders:
                target.parent.mkdir(parents=True, exist_ok=True)
                folders.add(target.parent)
            _write(opened, entry, target, archive)
            bar.update(entry.file_size)
    # One flush per folder instead of one per file: 120,000 flushes would take longer than the unpacking. Files cut off
    # by a power failure have the wrong size and are unpacked again.
    for folder in folders:
        sync_folder(folder)


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, archive: Path) -> None:
    # Not `files.atomic_path`, which flushes every file to disk, and follows a link in the place of one.
    temporary = target.with_name(f".{target.name}.tmp")  # the same after a kill, so that none is left over
    written = 0
    try:
        with opened.open(entry) as packed, temporary.open("wb") as file:
            while chunk := packed.read(_CHUNK):  # at the end the CRC is checked
                written += len(chunk)
                if written > entry.file_size:
                    break
                file.write(chunk)
        if written != entry.file_size:
            raise DownloadError(f"{archive}: {entry.filename} is not as large as the archive says")
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
