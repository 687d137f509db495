"""Reader of text files beside photographs: `1.jpg` with its captions in `1.txt`, a line each.

That is the form of kohya's training scripts, and of `captionlens caption --sidecar txt`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from captionlens.datasets.gathering import Gathering
from captionlens.datasets.reading import is_damaged, read_lines
from captionlens.datasets.records import split_name
from captionlens.errors import OptionError
from captionlens.runtime import EXTENSIONS, NOT_SURE


def has_texts(root: Path) -> bool:
    """Whether a photograph in a folder, or in one below it, has a text beside it."""
    return next((True for _, _, text in _photographs(root) if text is not None), False)


def read_texts(root: Path, gathering: Gathering) -> None:
    """Read the texts beside the photographs of a folder and of those below it.

    A folder in the root that is called like a split is one. What a captioner was unsure of, and wrote so, is no caption
    to learn from.
    """
    without = unsure = 0
    for folder, name, text in _photographs(root):
        if text is None:
            without += 1
            continue
        relative = (folder / name).relative_to(root).as_posix()
        gathering.photograph(
            relative, relative, [root], file=text, source_id=relative, split=_split(relative.partition("/")[0])
        )
        lines = list(read_lines(text))
        if not lines:
            gathering.caption(relative, "", file=text, at="")
        for number, line in lines:
            if is_damaged(line):
                gathering.malformed(text, f":{number}", "not UTF-8")
            elif line.startswith(NOT_SURE):
                unsure += 1
            else:
                gathering.caption(relative, line, file=text, at=f":{number}")
    if without:
        gathering.notes.append(f"photographs without a text beside them: {without:,}")
    if unsure:
        gathering.notes.append(f"captions that a captioner was not sure of, left out: {unsure:,}")


def _photographs(root: Path) -> Iterator[tuple[Path, str, Path | None]]:
    """Yield folder and name of each photograph that is not hidden, and its text."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        there = set(names)
        for name in sorted(names):
            stem, extension = os.path.splitext(name)  # noqa: PTH122 (a name may begin with a full stop)
            if extension.lower() in EXTENSIONS and not name.startswith("."):
                text = f"{stem}.txt"
                yield Path(folder), name, Path(folder, text) if text in there else None


def _split(folder: str) -> str | None:
    try:
        return split_name(folder)
    except OptionError:
        return None
