"""A photograph on its way to its caption: what it is called, and its pixels when they are wanted."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import UnreadableImage
from captionlens.runtime.caption import Caption
from captionlens.runtime.images import ImageSource, Preprocessing, describe_source


class Photograph:
    """A photograph and its name. A file object is read into bytes at once: the figure reads them again."""

    def __init__(self, source: ImageSource) -> None:
        self.name = describe_source(source)
        self.source = source
        self._error: UnreadableImage | None = None
        if callable(getattr(source, "read", None)):
            try:
                self.source = _content(source)
            except (OSError, ValueError) as error:
                self._error = UnreadableImage(self.name, str(error))

    def name_on(self, caption: Caption) -> Caption:
        """The caption, as this photograph's."""
        return replace(caption, path=self.name, source=self.source)

    def read(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The pixels (size, size, 3).

        Raises:
            UnreadableImage: the photograph cannot be read.
        """
        if self._error is not None:
            raise self._error
        try:
            return preprocessing.read(self.source)
        except UnreadableImage as error:
            # Of bytes that came from a file object, only this class knows the name.
            raise UnreadableImage(self.name, error.cause) from error


def _content(file: Any) -> bytes:
    """What is in a file object, from its beginning where it can be rewound, as Pillow reads it."""
    with suppress(AttributeError, OSError):
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise ValueError("is open as text, not in binary")
    return content
