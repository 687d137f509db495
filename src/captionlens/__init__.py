"""Captions for photographs, and for every word the place the network looked at.

import captionlens

captioner = captionlens.load()
caption = captioner.caption("photo.jpg")
caption.text
caption.overlay(1).save("word.png")
"""

from typing import TYPE_CHECKING, Any

from captionlens._version import __version__

if TYPE_CHECKING:
    from captionlens.runtime.caption import Caption, Word
    from captionlens.runtime.captioner import Captioner, load
    from captionlens.runtime.decoding import DecodingOptions

__all__ = ["Caption", "Captioner", "DecodingOptions", "Word", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used: `import captionlens` itself costs next to nothing."""
    import importlib

    homes = {"Caption": "caption", "Word": "caption", "DecodingOptions": "decoding"}
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"captionlens.runtime.{homes.get(name, 'captioner')}")
    return getattr(module, name)
