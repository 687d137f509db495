"""Result types: a caption with its words, their probabilities and their attention maps."""

import base64
import html
import io
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captionlens.drawing import figure, heatmap
from captionlens.errors import CaptionlensError
from captionlens.geometry.region import Region
from captionlens.runtime import NOT_SURE
from captionlens.runtime.faithfulness import Faithfulness
from captionlens.runtime.photograph import Photograph


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another word at the time step of one in the caption."""

    text: str
    probability: float  # given the same previous words, in [0, 1]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a caption."""

    text: str
    probability: float  # the network's probability of this word given the previous words, in [0, 1]
    confidence: float | None = None  # calibrated probability that a reference caption has it
    faithfulness: Faithfulness | None = None  # effect of blanking what it attended to, see `Captioner.examine`
    alternatives: tuple[Alternative, ...] = ()  # the most probable other words, where requested

    @property
    def certainty(self) -> float:
        """The value that figures and reports show: the confidence, else (not calibrated) the probability."""
        return self.probability if self.confidence is None else self.confidence


def _no_attention() -> NDArray[np.float32]:
    return np.zeros((0, 1, 1), np.float32)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Caption:
    """The caption of one photograph, or the error that prevented it.

    `attention` is float32 (words, rows, columns); every map sums to 1.
    """

    text: str
    log_prob: float = 0.0  # natural logarithm of the caption's probability, <end> included
    words: tuple[Word, ...] = ()
    attention: NDArray[np.float32] = field(default_factory=_no_attention)
    path: str | None = None
    model: str = ""
    error: CaptionlensError | None = None
    confidence: float | None = None  # expected idf-weighted share of right words; None: the model is not calibrated
    unsure: bool = False  # the model may not know this kind of photograph: outputs for people say so
    withheld: bool = False  # the confidence is below the requested minimum: outputs do not show the caption
    said: str | None = None  # as outputs for people word it, its doubt included; None: as the network says it
    region: Region | None = None  # that attention was restricted to; None: the whole photograph
    keywords: tuple[str, ...] | None = None  # its nouns, the most certain first; None: not requested
    photograph: Photograph | None = None  # the one that overlay() and figure() draw on

    @property
    def hedged(self) -> str:
        """The caption for people who may not see the photograph: it says where the captioner is unsure."""
        if self.said is not None:
            return self.said
        return f"{NOT_SURE}{self.text}" if self.unsure else self.text

    @property
    def file(self) -> dict[str, Any] | None:
        """Facts of the photograph's file, where they are known, see `Photograph`."""
        return None if self.photograph is None else self.photograph.file

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Caption(path={self.path!r}, error={str(self.error)!r})"
        confidence = "" if self.confidence is None else f", confidence={self.confidence:.2f}"
        return f"Caption({self.text!r}, path={self.path!r}{confidence})"

    def _repr_html_(self) -> str:
        """The caption under its figure, for notebooks."""
        text = html.escape(str(self.error) if self.error is not None else self.hedged)
        if self.error is not None or self.photograph is None:
            return f"<p>{text}</p>"
        file = io.BytesIO()
        self.figure().save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode()
        image = f'<img src="data:image/png;base64,{picture}" alt="{text}">'
        return f"<figure>{image}<figcaption>{text}</figcaption></figure>"

    def image(self) -> Image.Image:
        """The photograph, upright and RGB.

        Raises:
            CaptionlensError: the photograph could not be read in the first place.
            UnreadableImage: the photograph has been removed since.
        """
        if self.error is not None:
            raise self.error
        return self.known_photograph().image()

    def known_photograph(self) -> Photograph:
        """The photograph.

        Raises:
            CaptionlensError: the caption was generated from grid features, without a photograph.
        """
        if self.photograph is None:
            raise CaptionlensError("this caption does not know its photograph")
        return self.photograph

    def overlay(self, word: int) -> Image.Image:
        """Lay the attention map of word number `word` (from 0) over the photograph.

        Raises:
            IndexError: there is no such word.
        """
        return heatmap.overlay(self.image(), self.attention[word])

    def figure(self) -> Image.Image:
        """Draw the photograph, then a copy per word under the word's attention map."""
        return figure.attention_figure(
            self.image(),
            [word.text for word in self.words],
            self.attention,
            certainties=[word.certainty for word in self.words],
        )

    def to_dict(self, *, attention: bool = False) -> dict[str, Any]:
        """Plain values for JSON, in the form the README documents; attention maps only on request."""
        if self.error is not None:
            return {"path": self.path, "error": {"type": self.error.type, "message": str(self.error)}}
        words: list[dict[str, Any]] = []
        for word, map_ in zip(self.words, self.attention, strict=True):
            entry: dict[str, Any] = {"text": word.text, "probability": round(word.probability, 6)}
            if word.faithfulness is not None:
                entry["depends_on_picture"] = word.faithfulness.depends_on_picture
                entry["faithfulness"] = {name: round(p, 6) for name, p in asdict(word.faithfulness).items()}
            if word.confidence is not None:
                entry["confidence"] = round(word.confidence, 4)
            if word.alternatives:
                entry["alternatives"] = [
                    {"text": other.text, "probability": round(other.probability, 6)} for other in word.alternatives
                ]
            if attention:
                entry["attention"] = [[round(float(cell), 6) for cell in row] for row in map_]
            words.append(entry)
        result: dict[str, Any] = {"path": self.path, "caption": self.text}
        if self.file is not None:
            result["file"] = self.file
        if self.withheld:  # programs that read "caption" alone must not get a doubtful one
            result |= {"caption": None, "withheld": self.text}
        if self.confidence is not None:
            result["confidence"] = round(self.confidence, 4)
        if self.unsure:
            result["unsure"] = True
        if self.keywords is not None:
            result["keywords"] = list(self.keywords)
        return result | {"log_prob": round(self.log_prob, 6), "words": words, "model": self.model}
