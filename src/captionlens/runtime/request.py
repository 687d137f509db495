"""A caption request: how to search, and what is wished of the caption, from the command line, Python or HTTP alike."""

from dataclasses import dataclass, field

from captionlens.errors import OptionError
from captionlens.geometry.region import Region
from captionlens.runtime.decoding import DecodingOptions


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """All that is asked of a captioner for a photograph. `Captioner.request` makes one from the model's defaults.

    Args:
        decoding: how to search.
        prefix: words that the caption begins with.
        region: the part of the photograph that attention is kept to; None: all of it.
        alternatives: how many other words to give for every word.
        faithfulness: whether to blank out what each word looked at, see `Captioner.examine`.
        min_confidence: less confident captions are `withheld`; None: none is.

    Raises:
        OptionError: `alternatives` is negative.
    """

    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    prefix: str = ""
    region: Region | None = None
    alternatives: int = 0
    faithfulness: bool = False
    min_confidence: float | None = None

    def __post_init__(self) -> None:
        if self.alternatives < 0:
            raise OptionError(f"alternatives must be at least 0, got {self.alternatives}")
