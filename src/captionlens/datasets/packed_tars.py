"""Reader of tars in webdataset's form: `KEY.jpg` with its captions in `KEY.txt`, `KEY.caption` or `KEY.json`.

A key is a name up to its first full stop, with its folders. A tar is not trusted: nothing is extracted by its name.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from captionlens.datasets.caption_lists import captions_in
from captionlens.datasets.packed import Sample, check_pointer
from captionlens.datasets.reading import likely_encoding, refuse_other_encoding
from captionlens.datasets.records import Problem
from captionlens.datasets.table_form import Roles, TableForm
from captionlens.errors import DatasetError
from captionlens.runtime import EXTENSIONS

MOST_BYTES = 256 << 20  # of a photograph
_MOST_TEXT = 16 << 20  # bytes of a text or a JSON
_TEXTS = ("txt", "caption", "text")  # where a photograph has several, the first counts
_BLOCK = 512

Members = dict[str, tarfile.TarInfo]  # of one key, by what follows it in their names: "jpg", "txt"


def tar_samples(file: Path, form: TableForm) -> Iterator[Sample | Problem]:
    """Yield the photographs of a tar with their captions, and what cannot be used.

    Args:
        file: the tar, which is not compressed.
        form: names of the values in `KEY.json`, and the encoding of the texts. If it names the caption, that goes
            before texts.

    Raises:
        DatasetError: the tar is damaged, cut off, holds a name that leads elsewhere, a link or a device, or texts that
            are not UTF-8. Nothing is yielded if the fault is in its headers.
    """
    check_pointer(file)
    damaged, likely, number = 0, "cp1252", 0
    try:
        with tarfile.open(file, "r:") as tar:
            members = tar.getmembers()
            if not _ends(file, tar.offset):
                yield Problem(str(file), "has no end mark: it may be cut off", "malformed")
            for key, parts in _keys(file, members).items():
                number += 1
                try:
                    yield from _sample(file, tar, key, parts, form)
                except UnicodeDecodeError as error:
                    damaged += 1
                    likely = likely_encoding(error.object)
                    yield Problem(f"{file}, {key}", f"the text is not {form.encoding or 'UTF-8'}", "malformed")
                except ValueError as error:
                    yield Problem(f"{file}, {key}", str(error), "malformed")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DatasetError(file, f"is no whole tar, or a compressed one ({error})") from error
    refuse_other_encoding(file, damaged, number, "texts", likely, form.encoding or "UTF-8")


def _ends(file: Path, offset: int) -> bool:
    """Whether the headers of a tar end with the block of zeros that marks its end.

    Raises:
        DatasetError: something else is there; `tarfile` takes a damaged header for the end.
    """
    with file.open("rb") as opened:
        opened.seek(offset)
        block = opened.read(_BLOCK)
    if any(block) or 0 < len(block) < _BLOCK:
        raise DatasetError(file, f"damaged or cut off at byte {offset:,}")
    return bool(block)


def _keys(file: Path, members: list[tarfile.TarInfo]) -> dict[str, Members]:
    """The files of a tar by their keys, without hidden ones.

    Raises:
        DatasetError: one is unsafe.
    """
    keys: dict[str, Members] = {}
    for member in members:
        parts = PurePosixPath(member.name.replace("\\", "/")).parts
        if member.name.startswith(("/", "\\")) or ".." in parts or (parts and ":" in parts[0]) or "\0" in member.name:
            raise DatasetError(file, f"refused, it holds a name that leads elsewhere: {member.name!r}")
        if not member.isdir() and (not member.isreg() or member.issparse()):
            raise DatasetError(file, f"refused, it holds a link, a device or a file with holes: {member.name!r}")
        if member.isdir() or not parts or any(part.startswith(".") for part in parts):
            continue
        stem, _, rest = parts[-1].partition(".")
        keys.setdefault("/".join((*parts[:-1], stem)), {}).setdefault(rest.lower(), member)
    return keys


def _sample(file: Path, tar: tarfile.TarFile, key: str, parts: Members, form: TableForm) -> Iterator[Sample | Problem]:
    """Yield the photograph of a key, if it has one.

    Raises:
        ValueError: something of it cannot be used; as UnicodeDecodeError, if that is the encoding.
    """
    images = sorted((rest for rest in parts if _extension(rest) in EXTENSIONS), key=lambda rest: rest.count("."))
    values = _values(tar, parts, form)
    if not images:
        if "caption" in values:
            yield Problem(f"{file}, {key}", "no photograph with this text", "malformed")
        return
    photograph = parts[images[0]]
    if photograph.size > MOST_BYTES:
        raise ValueError(f"the photograph has {photograph.size:,} bytes, more than {MOST_BYTES:,}")
    for other in images[1:]:
        if other.count(".") == images[0].count("."):
            cause = f"has the name of {photograph.name}, and is left out"
            yield Problem(f"{file}, {parts[other].name}", cause, "shared-text")
    captions = tuple(captions_in(values.get("caption")))
    content = _content(tar, photograph)
    yield Sample(photograph.name, photograph.name, content, captions, values.get("split"), values.get("id"))


def _values(tar: tarfile.TarFile, parts: Members, form: TableForm) -> dict[str, Any]:
    """Caption, split and id of a key, out of its JSON and its text."""
    values: dict[str, Any] = {}
    if "json" in parts:
        row = json.loads(_text(tar, parts["json"], None))
        values = Roles(form).values(row.items()) if isinstance(row, dict) else {}
    text = next((parts[rest] for rest in _TEXTS if rest in parts), None)
    if text is not None and not ("caption" in form.columns and "caption" in values):
        values["caption"] = [line for line in _text(tar, text, form.encoding).splitlines() if line.strip()]
    return values


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo, encoding: str | None) -> str:
    if member.size > _MOST_TEXT:
        raise ValueError(f"{member.name} has {member.size:,} bytes, too many for a text")
    return _content(tar, member).decode(encoding or "utf-8-sig")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    content = b"" if opened is None else opened.read()
    if len(content) != member.size:
        raise EOFError(f"{member.name} is cut off")
    return content


def _extension(rest: str) -> str:
    return "." + rest.rpartition(".")[2]
