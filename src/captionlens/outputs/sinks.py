"""The interface of sinks, which take captions one by one; a failure for one photograph does not stop the others."""

from typing import Protocol

from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph

STDIN = "-"  # the path of a photograph that has none


class Sink(Protocol):
    """A destination of captions."""

    def write(self, caption: Caption) -> None:
        """Take one caption, or one with an error.

        Raises:
            CaptionlensError: it cannot be written for this photograph.
        """


class LastingSink(Sink, Protocol):
    """A destination that keeps captions from run to run."""

    def has(self, photograph: Photograph) -> bool:
        """Whether nothing is left to write for a photograph, known without reading it.

        Raises:
            CaptionlensError: what is there cannot be read.
        """
