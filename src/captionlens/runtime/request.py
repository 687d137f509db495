"""Caption requests: decoding options, prefix, region and extras, from the command line, Python or HTTP alike."""

from dataclasses import dataclass, field

from captionlens.errors import OptionError
from captionlens.geometry.region import Region
from captionlens.runtime import UNSURE, Unsure
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.vocabulary import UNK, Vocabulary, split_words


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """All options of captioning a photograph. `Captioner.request` makes one from the model's defaults.

    Args:
        decoding: options of decoding.
        prefix: words that the caption begins with.
        region: the part of the photograph that attention is restricted to; None: all of it.
        alternatives: number of alternatives to give for every word.
        faithfulness: whether to measure the faithfulness of every word, see `Captioner.examine`.
        min_confidence: captions of lower confidence are `withheld`; None: none is.
        unsure: what becomes of a caption that a calibrated model is not sure of: it is marked as `unsure`, or
            `withheld`, or shown like any other.
        keywords: number of nouns at most to give as keywords; 0: none are looked for.

    Raises:
        OptionError: `alternatives` or `keywords` is negative, or `unsure` is none of the three.
    """

    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    prefix: str = ""
    region: Region | None = None
    alternatives: int = 0
    faithfulness: bool = False
    min_confidence: float | None = None
    unsure: Unsure = "mark"
    keywords: int = 0

    def __post_init__(self) -> None:
        if self.alternatives < 0:
            raise OptionError(f"alternatives must be at least 0, got {self.alternatives}")
        if self.keywords < 0:
            raise OptionError(f"keywords must be at least 0, got {self.keywords}")
        if self.unsure not in UNSURE:
            raise OptionError(f"unsure must be one of {', '.join(UNSURE)}, got {self.unsure!r}")


def prefix_numbers(prefix: str, vocabulary: Vocabulary) -> list[int]:
    """Numbers of the words of a request's prefix.

    Raises:
        OptionError: a word is not in the vocabulary.
    """
    numbers = vocabulary.encode(prefix)[1:-1]
    for word, number in zip(split_words(prefix), numbers, strict=True):
        if number == UNK:
            raise OptionError(f"prefix: the model does not know the word {word!r}")
    return numbers
