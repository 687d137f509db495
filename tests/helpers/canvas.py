"""What a canvas of a page in the browser shows."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def canvas_pixels(canvas: Any) -> NDArray[np.uint8]:
    """RGBA of a canvas (height, width, 4), which Playwright has located."""
    url: str = canvas.evaluate("(canvas) => canvas.toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGBA"))
