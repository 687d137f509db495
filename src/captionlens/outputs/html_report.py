"""The HTML report: one page for any number of photographs that shows the attention map of each word pointed at.

The page has the captions as JSON; its script (`report_page/`) makes the entry of a photograph when it is scrolled to.
It needs no network, and its Content-Security-Policy forbids it: allowed are the one script and the one style sheet by
their hashes, and pictures that are embedded or, in a long report, lie beside it (`outputs.thumbnails`). All input (file
names, words, messages) is escaped and stands in text or in JSON, never in the script.
"""

import base64
import hashlib
import html
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path, PurePath
from typing import IO

from captionlens import files
from captionlens.errors import CaptionlensError
from captionlens.frontend import assets
from captionlens.outputs import report_entries
from captionlens.outputs.sinks import STDIN
from captionlens.outputs.thumbnails import Thumbnails, open_thumbnails
from captionlens.runtime.caption import Caption

_SHARED_MODULES = ("elements.mjs", "heatmap.mjs", "sentence.mjs", "parts.mjs", "words.mjs")  # each after its imports
_OWN_MODULES = (
    *("records.mjs", "corrections.mjs", "selection.mjs", "list.mjs", "correcting.mjs", "entry.mjs"),
    "report.mjs",
)


class Report:
    """A report being written, one photograph at a time, so that only one is in memory.

    Args:
        file: to write to.
        thumbnails: where the photographs go.
        path: of the report; part of the identity under which the browser keeps corrections.
        title: the heading.
        model: the model's name, for the head.
        decoding: the decoding strategy (`beam 3`, say), for the head.
        examined: whether words have `faithfulness`; the head then explains the mark of words that did not depend on
            the picture.
    """

    def __init__(
        self,
        file: IO[bytes],
        thumbnails: Thumbnails,
        path: Path,
        *,
        title: str,
        model: str,
        decoding: str,
        examined: bool,
    ) -> None:
        self._file, self._thumbnails, self._path = file, thumbnails, path
        self._names: list[str | None] = []
        self._failed = self._withheld = 0
        self._script = assets.bundle(*map(assets.read, _SHARED_MODULES), *map(_own, _OWN_MODULES))
        self._before, _, self._after = _own("report.html").partition("{entries}")
        style = assets.read("style.css") + _own("report.css")
        self._add(
            self._before,
            policy=_policy(self._script, style, thumbnails.policy),
            title=html.escape(report_entries.clean(title)),
            style=style,
            drawing=assets.drawing_settings(),
            about="".join(
                f"<span>{html.escape(report_entries.clean(fact))}</span>" for fact in (model, decoding) if fact
            ),
            key=assets.key(examined=examined),
        )

    def write(self, caption: Caption) -> None:
        """Add a photograph with its caption.

        The reason stands in its place where the caption has an error, or the photograph has been removed since.

        Raises:
            ValueError: the caption's numbers of maps and words differ.
            OSError: the report or its photographs cannot be written.
        """
        try:
            image = caption.image()
        except CaptionlensError as error:
            self._failed += 1
            entry = report_entries.failed(error)
        else:
            self._withheld += caption.withheld
            entry = report_entries.shown(caption, *self._thumbnails.add(image))
        separator = ",\n" if self._names else ""
        self._names.append(caption.path)
        self._file.write(f"{separator}{report_entries.compact(entry)}".encode())

    def finish(self) -> None:
        """Write the end of the page."""
        common, names = relative_names(self._names)
        folders = {folder: number for number, folder in enumerate(dict.fromkeys(folder for folder, _ in names))}
        identity = hashlib.sha256(os.fsencode(f"{self._path}\0{common}")).hexdigest()[:16]
        self._add(
            self._after,
            totals=self._totals(),
            names=report_entries.compact(
                {
                    "identity": identity,
                    "folders": list(folders),
                    "names": [(folders[folder], name) for folder, name in names],
                }
            ),
            script=self._script,
        )

    def _totals(self) -> str:
        shown = len(self._names) - self._failed
        noun = "photograph" if shown == 1 else "photographs"
        withheld = f", {self._withheld:,} of them withheld" if self._withheld else ""
        unread = f"; {self._failed:,} could not be read" if self._failed else ""
        return f"{shown:,} {noun} with captions{withheld}{unread}."

    def _add(self, template: str, **parts: str) -> None:
        """Write a piece of report.html; every `{name}` in it is replaced at once, so that no part can contain one."""
        self._file.write(re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], template).encode())


@contextmanager
def open_report(
    path: str | os.PathLike[str],
    *,
    expected: int = 0,
    title: str = "Where each word looked",
    model: str = "",
    decoding: str = "",
    examined: bool = False,
) -> Iterator[Report]:
    """Open a report to write captions to; the file appears, complete, at the end of the block.

    Args:
        path: of the file.
        expected: number of photographs that will come, see `open_thumbnails`.
        title, model, decoding, examined: see `Report`.

    Raises:
        OSError: the file, or the folder for its photographs, cannot be written.
    """
    real = Path(os.path.realpath(path))
    with open_thumbnails(real, expected) as thumbnails, files.atomic_open(real) as file:
        report = Report(file, thumbnails, real, title=title, model=model, decoding=decoding, examined=examined)
        yield report
        report.finish()


def relative_names(paths: Sequence[str | None]) -> tuple[str, list[tuple[str, str]]]:
    """Names of photographs, relative to the folder that all of them have in common.

    Returns:
        That folder, absolute, and a folder ("" for the common one; parts are separated by slashes) and a file name for
        each. Paths on several drives of Windows have nothing in common and stay absolute.
    """
    whole = {path: os.path.abspath(path) for path in paths if path not in (None, STDIN)}  # noqa: PTH100 (keeps links)
    try:
        common = os.path.commonpath({os.path.dirname(path) for path in whole.values()})  # noqa: PTH120
    except ValueError:
        common = ""

    def name(path: str | None) -> tuple[str, str]:
        if path is None or path not in whole:
            return "", STDIN
        absolute = PurePath(whole[path])
        relative = absolute.relative_to(common) if common else absolute
        folder = relative.parent.as_posix()
        return "" if folder == "." else folder, relative.name

    return common, [name(path) for path in paths]


def _policy(script: str, style: str, pictures: str) -> str:
    return (
        f"default-src 'none'; img-src {pictures}; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _own(name: str) -> str:
    return resources.files("captionlens.outputs").joinpath("report_page", name).read_text("utf-8")


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
