"""Requests and answers of Ollama's API, for validation and for the OpenAPI document.

Of requests, the fields that have an effect; all others are ignored. Names and meanings are those of docs/api.md in
Ollama's repository.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema
from typing_extensions import TypedDict


def _no_format(given: object) -> None:
    if given:
        raise ValueError("the captioner answers with a sentence, not with JSON")


Image = Annotated[str, Field(json_schema_extra={"format": "byte"}, description="A photograph's file in base64.")]
Format = Annotated[Any, AfterValidator(_no_format), WithJsonSchema({"enum": ["", None]})]


class OllamaOptions(BaseModel):
    """The one option that has an effect."""

    num_predict: int | None = Field(None, description="Most words of a caption; 0 and less: the captioner's own limit.")


class OllamaRequest(BaseModel):
    """What both kinds of requests have."""

    model: str | None = Field(None, description="Any name: the captioner answers.")
    stream: bool | None = Field(True, description="Answer with a JSON object a line, not with one object.")
    options: OllamaOptions | None = None
    format: Format = Field(None, description="Only text: other formats are refused.")

    @property
    def streams(self) -> bool:
        """Whether an object a line is wanted, which is the default."""
        return self.stream is not False

    @property
    def most_words(self) -> int | None:
        """Most words of a caption; None: the captioner's own limit."""
        wanted = self.options.num_predict if self.options else None
        return wanted if wanted and wanted > 0 else None


class OllamaGenerate(OllamaRequest):
    """The body of POST /api/generate."""

    prompt: str | None = Field(None, description="Not read.")
    images: list[Image] | None = None


class OllamaMessage(BaseModel):
    """A message of a chat."""

    role: str = Field(description="`assistant` is an answer: it ends a turn.")
    content: str | None = Field(None, description="Not read.")
    images: list[Image] | None = None


class OllamaChat(OllamaRequest):
    """The body of POST /api/chat."""

    messages: list[OllamaMessage] | None = None


class OllamaAnswer(TypedDict):
    """What all answers have; the durations are in nanoseconds."""

    model: str
    created_at: str
    done: bool
    done_reason: NotRequired[Literal["stop", "length", "load"]]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[int]
    eval_count: NotRequired[Annotated[int, Field(description="Words.")]]
    eval_duration: NotRequired[int]


class OllamaGenerated(OllamaAnswer):
    """A caption a line."""

    response: str


class OllamaSaid(TypedDict):
    """The message of the captioner."""

    role: Literal["assistant"]
    content: str


class OllamaChatted(OllamaAnswer):
    """A message with a caption a line."""

    message: OllamaSaid


class OllamaDetails(TypedDict):
    """Of a model."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(TypedDict):
    """The captioner, as a model of Ollama's."""

    name: str
    model: str
    modified_at: str
    size: Annotated[int, Field(description="Bytes of its files.")]
    digest: Annotated[str, Field(description="SHA-256 of its manifest.")]
    details: OllamaDetails


class OllamaModels(TypedDict):
    """All models: one."""

    models: list[OllamaModel]


class OllamaShown(TypedDict):
    """What is known of the captioner."""

    modified_at: str
    details: OllamaDetails
    model_info: dict[str, str | int]
    capabilities: list[str]


class OllamaVersion(TypedDict):
    """The version of captionlens."""

    version: str
