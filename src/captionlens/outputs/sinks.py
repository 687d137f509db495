"""Sinks of captions: each takes them one by one, and may fail for one photograph without stopping the others."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from captionlens.errors import FileError
from captionlens.files import atomic_path
from captionlens.outputs import OnExisting, Sidecar
from captionlens.outputs.sidecar import write_sidecar
from captionlens.runtime.caption import Caption

STDIN = "-"  # the path of a photograph that has none


class Sink(Protocol):
    """A place that captions go to."""

    def write(self, caption: Caption) -> None:
        """Take one caption, or what stands for its error.

        Raises:
            CaptionlensError: it cannot be written for this photograph.
        """


@dataclass(frozen=True, slots=True)
class Sidecars:
    """A file beside each photograph, see `outputs.sidecar`."""

    kind: Sidecar
    on_existing: OnExisting = "error"

    def write(self, caption: Caption) -> None:
        """Write the sidecar of a photograph that has a caption.

        Raises:
            FileError: it cannot be written, exists already, or the photograph came from stdin.
        """
        if caption.error is not None:
            return
        if caption.path in (None, STDIN):
            raise FileError(STDIN, "an image from stdin has no place for a sidecar")
        write_sidecar(str(caption.path), caption, self.kind, self.on_existing)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figure of where each word looked, as PNG named after the photograph; further ones of a name get a number."""

    folder: Path
    _taken: set[str] = field(default_factory=set)

    def write(self, caption: Caption) -> None:
        """Draw the figure of a photograph that has a caption to show.

        Raises:
            CaptionlensError: the photograph has gone since, or the file cannot be written.
        """
        if caption.error is not None or caption.withheld:
            return
        path = self.folder / f"{self._name(caption)}.png"
        try:
            with atomic_path(path) as temporary:
                caption.figure().save(temporary, format="PNG")
        except OSError as error:
            raise FileError(path, error.strerror or str(error)) from error

    def _name(self, caption: Caption) -> str:
        stem = "stdin" if caption.path in (None, STDIN) else Path(str(caption.path)).stem
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return name
