"""Requests and answers of OpenAI's chat completions, for validation and for the OpenAPI document.

Of requests, the fields that have an effect; all others are ignored. Names and meanings are those of OpenAI's API
reference, "Chat Completions".
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema
from typing_extensions import TypedDict


def _is_text(given: str) -> str:
    if given != "text":
        raise ValueError("the captioner answers with a sentence, not with JSON")
    return given


class OpenAIImage(BaseModel):
    """A photograph."""

    url: str = Field(
        description="data:image/jpeg;base64,... with the photograph's file; no address is fetched.",
        json_schema_extra={"format": "uri"},
    )


class OpenAIPart(BaseModel):
    """A part of a message; parts without an image are not read."""

    type: str | None = None
    image_url: OpenAIImage | str | None = Field(None, description="The address alone does as well.")

    @property
    def images(self) -> list[str]:
        """The address of its photograph, if it has one."""
        if self.image_url is None:
            return []
        return [self.image_url if isinstance(self.image_url, str) else self.image_url.url]


class OpenAIMessage(BaseModel):
    """A message of a chat."""

    role: str = Field(description="`assistant` is an answer: it ends a turn.")
    content: str | list[OpenAIPart] | None = None

    @property
    def images(self) -> list[str]:
        """The addresses of its photographs."""
        parts = self.content if isinstance(self.content, list) else []
        return [image for part in parts for image in part.images]


class OpenAIFormat(BaseModel):
    """The form of the answer: only text."""

    type: Annotated[str, AfterValidator(_is_text), WithJsonSchema({"const": "text"})]


class OpenAIStreamOptions(BaseModel):
    """What a stream holds."""

    include_usage: bool | None = Field(None, description="End the stream with the number of words.")


class OpenAIChat(BaseModel):
    """The body of POST /v1/chat/completions."""

    model: str | None = Field(None, description="Any name: the captioner answers.")
    messages: list[OpenAIMessage]
    stream: bool | None = Field(None, description="Answer with server-sent events.")
    stream_options: OpenAIStreamOptions | None = None
    max_completion_tokens: int | None = Field(None, ge=1, description="Most words of a caption.")
    max_tokens: int | None = Field(None, ge=1, description="The same, by its older name.")
    n: Literal[1] | None = Field(None, description="There is one answer.")
    response_format: OpenAIFormat | None = None

    @property
    def most_words(self) -> int | None:
        """Most words of a caption; None: the captioner's own limit."""
        return self.max_completion_tokens or self.max_tokens


class OpenAISaid(TypedDict):
    """The message of the captioner."""

    role: Literal["assistant"]
    content: Annotated[str, Field(description="A caption a line.")]
    refusal: None


class OpenAIChoice(TypedDict):
    """The one answer."""

    index: int
    message: OpenAISaid
    logprobs: None
    finish_reason: Literal["stop", "length"]


class OpenAIUsage(TypedDict):
    """Words; prompts are not read."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class OpenAICompletion(TypedDict):
    """The captions of a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[OpenAIChoice]
    usage: OpenAIUsage


class OpenAIModel(TypedDict):
    """The captioner."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(TypedDict):
    """All models: one."""

    object: Literal["list"]
    data: list[OpenAIModel]
