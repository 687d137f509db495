"""The routes of Ollama's API that programs call to have photographs described (docs/api.md of Ollama's repository).

Prompts are not read. Whatever model is asked for, the captioner answers, and says its own name.
"""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from captionlens._version import __version__
from captionlens.files import sha256
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.model_directory import MANIFEST
from captionlens.server import problems
from captionlens.server.completions import POINT, Completion, complete, described, images_of_last_turn, read_json
from captionlens.server.dialects import documented
from captionlens.server.ollama_schemas import (
    OllamaChat,
    OllamaChatted,
    OllamaGenerate,
    OllamaGenerated,
    OllamaModel,
    OllamaModels,
    OllamaShown,
    OllamaVersion,
)
from captionlens.server.service import Serving

FORMS = (OllamaGenerate, OllamaChat)
_STREAM = "application/x-ndjson"
_FAMILY = "captionlens"
_POSTED = (*problems.EVERYWHERE, problems.CROSS_SITE, problems.TOO_LARGE, problems.TOO_FAST)
_TOLD = documented("Ollama", *problems.EVERYWHERE)
_ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The captions.", "content": {_STREAM: {"schema": {"type": "string"}}}},
    **documented("Ollama", *problems.UPLOADING, problems.UNREADABLE),
}
_ASKED = {"model": "any", "stream": False}
router = APIRouter(tags=["Ollama"])


@router.get("/api/tags", summary="The captioner, as Ollama lists models", responses=_TOLD)
async def tags(service: Serving) -> OllamaModels:
    """The one captioner there is. Any other name does as well."""
    return {"models": [_model_of(service.batcher.captioner)]}


@router.get("/api/ps", summary="The same: it is always loaded", responses=_TOLD)
async def ps(service: Serving) -> OllamaModels:
    """The one captioner there is."""
    return {"models": [_model_of(service.batcher.captioner)]}


@router.post("/api/show", summary="The captioner, as Ollama shows a model", responses=documented("Ollama", *_POSTED))
async def show(service: Serving) -> OllamaShown:
    """The captioner, whatever name is asked for: it is the one that would answer."""
    captioner = service.batcher.captioner
    model = _model_of(captioner)
    rows, columns = captioner.grid
    return {
        "modified_at": model["modified_at"],
        "details": model["details"],
        "model_info": {
            "general.architecture": _FAMILY,
            "general.name": captioner.name,
            f"{_FAMILY}.vocab_size": len(captioner.vocabulary),
            f"{_FAMILY}.grid_rows": rows,
            f"{_FAMILY}.grid_columns": columns,
        },
        "capabilities": ["completion", "vision"],
    }


@router.get("/api/version", summary="The version of captionlens", responses=_TOLD)
async def version() -> OllamaVersion:
    """Of captionlens, not of Ollama."""
    return {"version": __version__}


@router.post(
    "/api/generate",
    summary="Caption photographs, for programs that know Ollama",
    response_model=OllamaGenerated,
    responses=_ANSWERED,
    openapi_extra=described(OllamaGenerate, {**_ASKED, "images": [POINT]}),
)
async def generate(request: Request, service: Serving) -> Response:
    """A caption a line. A request without prompt and images loads the model, which is loaded already."""
    began = time.perf_counter_ns()
    async with service.in_time():
        asked = await read_json(request, service, OllamaGenerate)
        said = None
        if asked.images or asked.prompt:
            said = await complete(request, service, asked.images or [], asked.most_words)
    return _answer(service.batcher.captioner.name, said, lambda text: {"response": text}, began, stream=asked.streams)


@router.post(
    "/api/chat",
    summary="Caption the photographs of a chat, for programs that know Ollama",
    response_model=OllamaChatted,
    responses=_ANSWERED,
    openapi_extra=described(OllamaChat, {**_ASKED, "messages": [{"role": "user", "images": [POINT]}]}),
)
async def chat(request: Request, service: Serving) -> Response:
    """A caption a line, of the photographs since the last answer, or of the last turn that has any.

    A request without messages loads the model, which is loaded already.
    """
    began = time.perf_counter_ns()
    async with service.in_time():
        asked = await read_json(request, service, OllamaChat)
        said = None
        if asked.messages:
            images = images_of_last_turn((message.role, message.images or ()) for message in asked.messages)
            said = await complete(request, service, images, asked.most_words)

    def message(text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}

    return _answer(service.batcher.captioner.name, said, message, began, stream=asked.streams)


def _answer(
    model: str, said: Completion | None, as_part: Callable[[str], dict[str, Any]], began: int, *, stream: bool
) -> Response:
    """The captions as one object, or as a stream of two: the captions, and that they are all.

    Args:
        model: the captioner's name.
        said: the captions; None: the model was to be loaded.
        as_part: the fields that hold a text.
        began: `time.perf_counter_ns()` at the beginning of the request.
        stream: whether the client wants an object a line.
    """
    head = {"model": model, "created_at": _time(datetime.now(UTC))}
    if said is None:
        parts = [{**as_part(""), "done": True, "done_reason": "load"}]
    else:
        end = {
            "done": True,
            "done_reason": "length" if said.cut else "stop",
            "total_duration": time.perf_counter_ns() - began,
            "load_duration": 0,
            "prompt_eval_count": 0,  # no prompt is read
            "prompt_eval_duration": 0,
            "eval_count": said.words,
            "eval_duration": said.nanoseconds,
        }
        whole, last = {**as_part(said.text), **end}, {**as_part(""), **end}
        parts = [{**as_part(said.text), "done": False}, last] if stream else [whole]
    if not stream:
        return JSONResponse({**head, **parts[0]})
    return Response("".join(json.dumps({**head, **part}) + "\n" for part in parts), media_type=_STREAM)


def _model_of(captioner: Captioner) -> OllamaModel:
    """The captioner as Ollama lists models."""
    size, digest, modified = _files_of(captioner.folder)
    return {
        "name": captioner.name,
        "model": captioner.name,
        "modified_at": _time(modified),
        "size": size,
        "digest": digest,
        "details": {
            "parent_model": "",
            "format": "onnx",
            "family": _FAMILY,
            "families": [_FAMILY],
            "parameter_size": "",
            "quantization_level": "",
        },
    }


@cache
def _files_of(folder: Path | None) -> tuple[int, str, datetime]:
    """Bytes of a model directory, SHA-256 of its manifest, and when that was written; zeros without a directory."""
    if folder is None:
        return 0, "0" * 64, datetime.fromtimestamp(0, UTC)
    manifest = folder / MANIFEST
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return size, sha256(manifest), datetime.fromtimestamp(manifest.stat().st_mtime, UTC)


def _time(time: datetime) -> str:
    """A time as RFC 3339 writes it, which Ollama does."""
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
