"""Sinks of captions, which take them one by one; a failure for one photograph does not stop the others."""

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
    """A destination of captions."""

    def write(self, caption: Caption) -> None:
        """Take one caption, or one with an error.

        Raises:
            CaptionlensError: it cannot be written for this photograph.
        """


@dataclass(frozen=True, slots=True)
class Sidecars:
    """Sidecar files beside the photographs, see `outputs.sidecar`."""

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
    """Attention figures as PNG files named after the photographs; a name taken already gets a number."""

    folder: Path
    _taken: set[str] = field(default_factory=set)

    def write(self, caption: Caption) -> None:
        """Draw the figure of a photograph that has a caption to show.

        Raises:
            CaptionlensError: the photograph has been removed since, or the file cannot be written.
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
