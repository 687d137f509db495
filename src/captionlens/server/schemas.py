"""Parameters and responses of the service, for validation and for the OpenAPI document.

Responses are TypedDicts: they describe the JSON of `Caption.to_dict`, in which unknown values are absent.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from captionlens.errors import OptionError
from captionlens.geometry.region import Region
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.request import CaptionRequest
from captionlens.server.settings import MOST_ALTERNATIVES, MOST_BEAM, MOST_WORDS

_FRACTION = r"(0|1|0?\.[0-9]{1,9}|1\.0{1,9})"
_REGION = rf"^{_FRACTION},{_FRACTION},{_FRACTION},{_FRACTION}$"
_EXACT = ConfigDict(extra="forbid")
Share = Annotated[float, Field(ge=0, le=1)]


def _is_region(text: str) -> str:
    try:
        Region.parse(text)
    except OptionError as error:
        raise ValueError(str(error)) from None
    return text


class Search(BaseModel):
    """Query parameters of a request for several photographs."""

    model_config = _EXACT

    beam: int | None = Field(None, ge=1, le=MOST_BEAM, description="Beam width; 1 is greedy. Default: the model's own.")
    temperature: float | None = Field(None, gt=0, le=5, description="Draw words at random, this much flattened.")
    top_k: int = Field(0, ge=0, le=100_000, description="With temperature: of the K likeliest words; 0 of all.")
    top_p: float = Field(1.0, gt=0, le=1, description="With temperature: of the likeliest words of this mass.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="With temperature: what chance begins from.")
    max_words: int | None = Field(None, ge=1, le=MOST_WORDS, description="Longer captions are cut.")
    attention: bool = Field(False, description="Give, for every word, the map of where the network looked.")
    alternatives: int = Field(
        0, ge=0, le=MOST_ALTERNATIVES, description="How many other words to give for every word, likeliest first."
    )

    def request(self, captioner: Captioner) -> CaptionRequest:
        """The caption request, with the captioner's defaults.

        Raises:
            OptionError: see `Captioner.request`.
        """
        return captioner.request(**self.model_dump(exclude={"attention"}))


class Guided(Search):
    """Query parameters of a request for one photograph."""

    prefix: str = Field("", max_length=500, description="Words that the caption begins with.")
    region: Annotated[str, AfterValidator(_is_region)] | None = Field(
        None,
        pattern=_REGION,
        description="left,top,right,bottom as fractions of width and height: attention is kept to this box.",
        examples=["0.1,0.2,0.6,0.9"],
    )
    faithfulness: bool = Field(
        False, description="Blank out where each word looked: does the word depend on the picture? Slow."
    )

    def request(self, captioner: Captioner) -> CaptionRequest:
        """The caption request, with the captioner's defaults.

        Raises:
            OptionError: see `Captioner.request`.
        """
        region = None if self.region is None else Region.parse(self.region)
        return captioner.request(**self.model_dump(exclude={"attention", "region"}), region=region)


class AlternativeWord(TypedDict):
    """A word that could stand in the place of another."""

    __pydantic_config__ = _EXACT  # type: ignore[misc]
    text: str
    probability: Share


class WordFaithfulness(TypedDict):
    """A word's probability with the whole photograph, without what it looked at, and without as much elsewhere."""

    __pydantic_config__ = _EXACT  # type: ignore[misc]
    probability: Share
    blanked: Share
    control: Share


class CaptionWord(TypedDict):
    """A word of a caption."""

    __pydantic_config__ = _EXACT  # type: ignore[misc]
    text: str
    probability: Annotated[Share, Field(description="Of this word after the words before it.")]
    confidence: NotRequired[
        Annotated[Share, Field(description="Calibrated: that people would say it of this picture.")]
    ]
    attention: NotRequired[
        Annotated[list[list[Share]], Field(description="Rows from the top, columns from the left; they sum to 1.")]
    ]
    alternatives: NotRequired[list[AlternativeWord]]
    depends_on_picture: NotRequired[bool]
    faithfulness: NotRequired[WordFaithfulness]


class CaptionAnswer(TypedDict):
    """A caption with its words."""

    __pydantic_config__ = _EXACT  # type: ignore[misc]
    path: Annotated[str, Field(description="The name the photograph came with, or `-`.")]
    caption: str
    confidence: NotRequired[Annotated[Share, Field(description="Calibrated: expected share of right words.")]]
    unsure: NotRequired[Annotated[Literal[True], Field(description="The model may not know such photographs.")]]
    log_prob: Annotated[float, Field(le=0, description="Natural logarithm of the caption's probability.")]
    words: list[CaptionWord]
    model: str


class FileProblem(TypedDict):
    """Why a photograph has no caption."""

    __pydantic_config__ = _EXACT  # type: ignore[misc]
    type: str
    message: str


class FailedPhotograph(TypedDict):
    """A photograph of several that has no caption."""

    __pydantic_config__ = _EXACT  # type: ignore[misc]
    path: str
    error: FileProblem


class BatchAnswer(TypedDict):
    """Captions of several photographs, in the order in which they came."""

    __pydantic_config__ = _EXACT  # type: ignore[misc]
    captions: list[CaptionAnswer | FailedPhotograph]


class Grid(TypedDict):
    """Of attention maps."""

    rows: int
    columns: int


class Decoding(TypedDict):
    """Defaults of the search for captions."""

    beam: int
    length_penalty: float
    max_words: int


class Limits(TypedDict):
    """Limits of the service."""

    upload_bytes: int
    batch_upload_bytes: int
    batch_photographs: int
    pixels: int
    beam: int
    max_words: int
    alternatives: int


class ModelAnswer(TypedDict):
    """The captioner behind the service."""

    name: str
    version: Annotated[str, Field(description="Of captionlens.")]
    vocabulary: Annotated[int, Field(description="Words it knows.")]
    grid: Grid
    calibrated: Annotated[bool, Field(description="Whether captions have a confidence.")]
    decoding: Decoding
    limits: Limits


class Health(TypedDict):
    """Whether the service lives."""

    status: str
