"""Image captioning with visual attention: captions of photographs, with an attention map for every word.

import captionlens

captioner = captionlens.load()
caption = captioner.caption("photo.jpg")
caption.text
caption.overlay(1).save("word.png")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captionlens._version import __version__

if TYPE_CHECKING:
    from captionlens.errors import (
        CaptionlensError,
        DatasetError,
        DeviceError,
        DownloadError,
        FileError,
        MissingExtra,
        ModelError,
        OptionError,
        PhrasesMissing,
        RegionError,
        RunError,
        StoreError,
        UnreadableImage,
        WeightsError,
    )
    from captionlens.geometry.region import Region
    from captionlens.runtime.caption import Alternative, Caption, Word
    from captionlens.runtime.captioner import Captioner, load
    from captionlens.runtime.decoding import DecodingOptions
    from captionlens.runtime.faithfulness import Faithfulness
    from captionlens.runtime.photograph import Photograph
    from captionlens.runtime.request import CaptionRequest
    from captionlens.runtime.vocabulary import Vocabulary

# Where each public name is defined.
_HOMES = {
    "errors": (
        "CaptionlensError", "DatasetError", "DeviceError", "DownloadError", "FileError", "MissingExtra", "ModelError",
        "OptionError", "PhrasesMissing", "RegionError", "RunError", "StoreError", "UnreadableImage", "WeightsError",
    ),
    "geometry.region": ("Region",),
    "runtime.caption": ("Alternative", "Caption", "Word"),
    "runtime.captioner": ("Captioner", "load"),
    "runtime.decoding": ("DecodingOptions",),
    "runtime.faithfulness": ("Faithfulness",),
    "runtime.photograph": ("Photograph",),
    "runtime.request": ("CaptionRequest",),
    "runtime.vocabulary": ("Vocabulary",),
}  # fmt: skip

__all__ = [
    "Alternative",
    "Caption",
    "CaptionRequest",
    "Captioner",
    "CaptionlensError",
    "DatasetError",
    "DecodingOptions",
    "DeviceError",
    "DownloadError",
    "Faithfulness",
    "FileError",
    "MissingExtra",
    "ModelError",
    "OptionError",
    "Photograph",
    "PhrasesMissing",
    "Region",
    "RegionError",
    "RunError",
    "StoreError",
    "UnreadableImage",
    "Vocabulary",
    "WeightsError",
    "Word",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used: `import captionlens` itself costs next to nothing."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"captionlens.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
