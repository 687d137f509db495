"""Input photographs: their source, name and size limit, and their pixels, decoded once."""

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionlens.errors import UnreadableImage
from captionlens.runtime.images import MAX_PIXELS, ImageSource, Preprocessing, describe_source, read_image


class Photograph:
    """A photograph with its name in captions and errors.

    A file object is read into bytes at once, since figures read the photograph again.

    Args:
        source: path, bytes, file object, PIL image, or uint8 array (H, W, 3).
        name: by default its path, or the kind of object it is.
        max_pixels: larger pictures are refused before they are decoded.

    Attributes:
        file: facts of its file for outputs, see `files.stamp`; None where nobody asked.
    """

    def __init__(self, source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.name = describe_source(source) if name is None else name
        self.max_pixels = max_pixels
        self.file: dict[str, Any] | None = None
        self._source = source
        self._error: UnreadableImage | None = None
        self._pixels: tuple[Preprocessing, NDArray[np.uint8]] | None = None
        if callable(getattr(source, "read", None)):
            try:
                self._source = _content(source)
            except (OSError, ValueError) as error:
                self._error = UnreadableImage(self.name, str(error))

    @classmethod
    def of(cls, source: "ImageSource | Photograph") -> "Photograph":
        """Wrap `source` as a photograph; a `Photograph` is returned unchanged."""
        return source if isinstance(source, Photograph) else cls(source)

    def __repr__(self) -> str:
        return f"Photograph({self.name!r})"

    def pixels(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The pixels resized for a network, uint8 (size, size, 3); decoded at the first call, kept until `release`.

        Raises:
            UnreadableImage: the photograph cannot be read.
        """
        if self._pixels is None or self._pixels[0] != preprocessing:
            pixels = preprocessing.read(self._readable(), name=self.name, max_pixels=self.max_pixels)
            self._pixels = preprocessing, pixels
        return self._pixels[1]

    def image(self) -> Image.Image:
        """The whole photograph, upright and RGB, read anew.

        Raises:
            UnreadableImage: the photograph cannot be read, or has been removed since.
        """
        return read_image(self._readable(), name=self.name, max_pixels=self.max_pixels)

    def release(self) -> None:
        """Free the pixels: captions of thousands of photographs must not hold them all."""
        self._pixels = None

    def _readable(self) -> ImageSource:
        if self._error is not None:
            raise self._error
        return self._source


def _content(file: Any) -> bytes:
    """Bytes of a file object, from its beginning if it is seekable, as Pillow reads it."""
    with suppress(AttributeError, OSError):
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise ValueError("is open as text, not in binary")
    return content
