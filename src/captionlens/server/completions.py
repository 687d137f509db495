"""Parts shared by the routes of Ollama's and OpenAI's APIs: requests in JSON, photographs in base64, their captions."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from captionlens.runtime.photograph import Photograph
from captionlens.server import problems, uploads
from captionlens.server.problems import Problem
from captionlens.server.service import Service, options_refused
from captionlens.server.settings import Settings

Form = TypeVar("Form", bound=BaseModel)

_MOST_VALUES = 100_000  # in the JSON of a request: each takes a hundred times the memory of its two or three bytes
_MOST_ERRORS = 3  # told of a request
_SCHEMAS = "#/components/schemas/"
# The file of a photograph of one grey point in base64, for examples.
POINT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="


@dataclass(frozen=True, slots=True)
class Completion:
    """Answer of the captioner to a request.

    Args:
        text: a caption a line, in the order of the photographs; one that the captioner is unsure of says so.
        words: number of words of all captions, which are the tokens that the network generated.
        cut: whether a caption has as many words as it may have.
        nanoseconds: from the whole upload to the captions, waiting included.
    """

    text: str
    words: int
    cut: bool
    nanoseconds: int


async def read_json(request: Request, service: Service, form: type[Form]) -> Form:
    """The body of a request, whatever Content-Type it says to have: curl -d says that it were a form.

    Args:
        request: to read.
        service: whose queue must have room, and whose limit of time holds. Call within its `in_time`.
        form: fields to read; other fields are ignored.

    Raises:
        Problem: MALFORMED, no JSON; BAD_OPTION, a field makes no sense; TOO_LARGE; or as `Service.uploaded`.
    """
    service.batcher.check_room()
    content = await service.uploaded(_body(request))
    if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise Problem(problems.TOO_LARGE, f"more than {_MOST_VALUES} values in the JSON")
    try:
        return form.model_validate_json(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        if wrong[0]["type"] == "json_invalid":
            raise Problem(problems.MALFORMED, str(wrong[0]["msg"])) from None
        told = [(".".join(map(str, entry["loc"])), entry["msg"].removeprefix("Value error, ")) for entry in wrong]
        raise problems.bad_options(told[:_MOST_ERRORS]) from None


async def complete(
    request: Request, service: Service, images: Sequence[str], most_words: int | None = None
) -> Completion:
    """The captions of the photographs of a request. Call within `Service.in_time`.

    Args:
        request: whose body has been read.
        service: captions the photographs.
        images: photographs in base64, or as `data:` URLs.
        most_words: longer captions are cut; never more than the captioner's own limit.

    Raises:
        Problem: there is no photograph, one cannot be read, they are too many or too large, or there is no room.
        ClientDisconnect: the client has gone.
    """
    began = time.perf_counter_ns()
    captioner, settings = service.batcher.captioner, service.settings
    if not images:
        raise Problem(problems.MALFORMED, "it holds no image, and this captioner answers to nothing else")
    if len(images) > settings.batch_photographs:
        raise Problem(problems.TOO_LARGE, f"more than {settings.batch_photographs} photographs in one request")
    photographs = await asyncio.to_thread(_photographs, images, settings)  # large ones take their time
    words = min(most_words or captioner.options.max_words, captioner.options.max_words)
    with options_refused():
        captions = await service.caption_all(request, photographs, captioner.request(max_words=words))
    for caption in captions:
        if caption.error is not None:
            raise Problem(problems.UNREADABLE, str(caption.error)) from caption.error
    return Completion(
        text="\n".join(caption.hedged for caption in captions),
        words=sum(len(caption.words) for caption in captions),
        cut=any(len(caption.words) >= words for caption in captions),
        nanoseconds=time.perf_counter_ns() - began,
    )


def images_of_last_turn(messages: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """The images of a chat that are asked about: those since the last answer, or those of the last turn that has any.

    Answers are messages of the role `assistant`; their own images do not count. A turn may be several messages: some
    programs send every image in one of its own, and the prompt after them.

    Args:
        messages: of each its role and its images.
    """
    found: list[str] = []
    for role, images in reversed([*messages]):
        if role != "assistant":
            found.extend(reversed(images))
        elif found:
            break
    return found[::-1]


def described(form: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI description of the body of a request that `read_json` reads.

    Args:
        form: its fields, one of those given to `schemas_of`.
        example: of a body.
    """
    content = {"schema": {"$ref": _SCHEMAS + form.__name__}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def schemas_of(*forms: type[BaseModel]) -> dict[str, Any]:
    """The JSON schemas of these forms, and of those within them, by name."""
    _, found = models_json_schema([(form, "validation") for form in forms], ref_template=_SCHEMAS + "{model}")
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _photographs(images: Sequence[str], settings: Settings) -> list[Photograph]:
    return [
        uploads.from_base64(text, f"image {number}", most=settings.upload_bytes, pixels=settings.pixels)
        for number, text in enumerate(images, 1)
    ]


async def _body(request: Request) -> bytes:
    """The body, which `request.body()` would keep until the request ends."""
    return b"".join([part async for part in request.stream()])
