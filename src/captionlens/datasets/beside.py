"""Reader of text files beside photographs: `1.jpg` with its captions in `1.txt`, a line each.

That is the form of `captionlens caption --sidecar txt`, and of kohya's training scripts, which also read `1.caption`.
"""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from captionlens.datasets.gathering import Gathering, folders_below
from captionlens.datasets.reading import decode, is_damaged, likely_encoding, read_content, refuse_other_encoding
from captionlens.datasets.records import split_name
from captionlens.errors import DatasetError, OptionError
from captionlens.runtime import EXTENSIONS, NOT_SURE

_TEXTS = (".txt", ".caption")  # where a photograph has both, the first counts


@dataclass(slots=True)
class _Folder:
    """A folder's photographs and texts. A stem is a name without its extension, its letters composed."""

    path: Path
    photographs: list[tuple[str, str]]  # name and stem
    texts: dict[str, str]  # name by stem


def has_texts(root: Path) -> bool:
    """Whether a photograph in a folder, or in one below it, has a text beside it."""
    return any(stem in folder.texts for folder in _folders(root) for _, stem in folder.photographs)


def read_texts(root: Path, gathering: Gathering, encoding: str | None = None) -> None:
    """Read the texts beside the photographs of a folder and of those below it.

    A folder in the root that is called like a split is one. What a captioner was unsure of, and wrote so, is no caption
    to learn from. Where two photographs have one text, as a photograph and its copy in another format have, the first
    gets it.

    Raises:
        DatasetError: many of the texts are not UTF-8, or not of `encoding`.
    """
    texts: list[tuple[str, Path]] = []  # photograph, relative to the root, and its text
    without, orphans = 0, []
    for folder in _folders(root):
        owners: dict[str, str] = {}
        for name, stem in folder.photographs:
            if stem not in folder.texts:
                without += 1
            elif stem in owners:
                gathering.shared_text(folder.path / folder.texts[stem], name, owners[stem])
            else:
                owners[stem] = name
                relative = (folder.path / name).relative_to(root).as_posix()
                texts.append((relative, folder.path / folder.texts[stem]))
        orphans += [folder.path / text for stem, text in folder.texts.items() if stem not in owners]
    _read(root, texts, gathering, encoding)
    if without:
        gathering.notes.append(f"photographs without a text beside them: {without:,}")
    if orphans:
        example = orphans[0].relative_to(root).as_posix()
        gathering.notes.append(f"texts without a photograph beside them: {len(orphans):,}, e.g. {example}")


def _read(root: Path, texts: list[tuple[str, Path]], gathering: Gathering, encoding: str | None) -> None:
    unsure = damaged = 0
    likely = "cp1252"
    for photograph, file in texts:
        split = _split(photograph.partition("/")[0])
        gathering.photograph(photograph, photograph, [root], file=file, source_id=photograph, split=split)
        content = read_content(file)
        try:
            text = decode(file, content, encoding)
        except DatasetError as error:
            damaged += 1
            gathering.malformed(file, "", error.cause)
            continue
        if is_damaged(text) or "\0" in text:
            damaged += 1
            likely = likely_encoding(content)
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if not lines:
            gathering.caption(photograph, "", file=file, at="")
        for number, line in lines:
            if is_damaged(line) or "\0" in line:
                gathering.malformed(file, f":{number}", "not UTF-8")
            elif line.startswith(NOT_SURE):
                unsure += 1
            else:
                gathering.caption(photograph, line, file=file, at=f":{number}", once=True)
    refuse_other_encoding(root, damaged, len(texts), "texts", likely, encoding or "UTF-8")
    if unsure:
        gathering.notes.append(f"captions that a captioner was not sure of, left out: {unsure:,}")


def _folders(root: Path) -> Iterator[_Folder]:
    """Yield a folder and those below it, but for hidden ones."""
    for place in folders_below(str(root)):
        folder = _Folder(Path(place), [], {})
        names = sorted(name for name in os.listdir(place) if not name.startswith("."))  # noqa: PTH208
        for name in names:
            stem, extension = os.path.splitext(unicodedata.normalize("NFC", name))  # noqa: PTH122
            if extension.lower() in EXTENSIONS:
                folder.photographs.append((name, stem))
            elif extension.lower() in _TEXTS:
                other = folder.texts.get(stem)
                if other is None or _TEXTS.index(extension.lower()) < _TEXTS.index(Path(other).suffix.lower()):
                    folder.texts[stem] = name
        yield folder


def _split(folder: str) -> str | None:
    try:
        return split_name(folder)
    except OptionError:
        return None
