"""The routes of OpenAI's API that programs call to have photographs described ("Chat Completions" of its reference).

Prompts are not read. Whatever model is asked for, the captioner answers, and says its own name.
"""

import json
import secrets
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from captionlens.server import problems
from captionlens.server.completions import POINT, Completion, complete, described, images_of_last_turn, read_json
from captionlens.server.dialects import documented
from captionlens.server.openai_schemas import OpenAIChat, OpenAICompletion, OpenAIModels, OpenAIUsage
from captionlens.server.service import Serving

FORMS = (OpenAIChat,)
_STREAM = "text/event-stream"
_EXAMPLE = {
    "model": "any",
    "messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{POINT}"}}]}
    ],
}
router = APIRouter(tags=["OpenAI"])


@router.get(
    "/v1/models",
    summary="The captioner, as OpenAI lists models",
    responses=documented("OpenAI", *problems.EVERYWHERE),
)
async def models(service: Serving) -> OpenAIModels:
    """The one captioner there is. Any other name does as well."""
    name = service.batcher.captioner.name
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "captionlens"}]}


@router.post(
    "/v1/chat/completions",
    summary="Caption the photographs of a chat, for programs that know OpenAI",
    response_model=OpenAICompletion,
    responses={
        200: {"description": "The captions.", "content": {_STREAM: {"schema": {"type": "string"}}}},
        **documented("OpenAI", *problems.UPLOADING, problems.UNREADABLE),
    },
    openapi_extra=described(OpenAIChat, _EXAMPLE),
)
async def chat_completions(request: Request, service: Serving) -> Response:
    """A caption a line, of the photographs since the last answer, or of the last turn that has any."""
    async with service.in_time():
        asked = await read_json(request, service, OpenAIChat)
        images = images_of_last_turn((message.role, message.images) for message in asked.messages)
        said = await complete(request, service, images, asked.most_words)
    head = {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": service.batcher.captioner.name,
    }
    if asked.stream:
        counted = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return Response(_events(head, said, counted=counted), media_type=_STREAM)
    message = {"role": "assistant", "content": said.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(said)}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": _usage(said)})


def _events(head: dict[str, Any], said: Completion, *, counted: bool) -> str:
    """The captions as server-sent events: all of them, that they are all, and, if `counted`, how many words.

    Args:
        head: what all chunks have.
        said: the captions.
        counted: whether the client asked for the number of words.
    """
    usage = {"usage": None} if counted else {}
    deltas = [({"role": "assistant", "content": said.text}, None), ({}, _reason(said))]
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}], **usage}
        for delta, reason in deltas
    ]
    if counted:
        chunks.append({"choices": [], "usage": _usage(said)})
    data = [json.dumps({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*data, "[DONE]"])


def _reason(said: Completion) -> str:
    return "length" if said.cut else "stop"


def _usage(said: Completion) -> OpenAIUsage:
    return {"prompt_tokens": 0, "completion_tokens": said.words, "total_tokens": said.words}
