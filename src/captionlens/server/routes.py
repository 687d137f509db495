"""The routes under /v1, and those that monitors call."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from captionlens._version import __version__
from captionlens.runtime.caption import Caption
from captionlens.server import metrics, problems
from captionlens.server.problems import Problem, documented
from captionlens.server.schemas import BatchAnswer, CaptionAnswer, Guided, Health, ModelAnswer, Search
from captionlens.server.service import Serving
from captionlens.server.settings import MOST_ALTERNATIVES, MOST_BEAM, MOST_WORDS

_UPLOADING = (*problems.UPLOADING, problems.UNSUPPORTED)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary"}


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {"file": schema}
    form = {"type": "object", "required": ["file"], "properties": properties, "additionalProperties": False}
    return {"schema": form}


_ONE = {
    "requestBody": {
        "required": True,
        "description": "A photograph: its file as it is, or as the part `file` of a form.",
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": _form(_FILE),
        },
    }
}
_SEVERAL = {
    "requestBody": {
        "required": True,
        "description": "Photographs, each a part `file` of a form.",
        "content": {"multipart/form-data": _form({"type": "array", "items": _FILE, "minItems": 1})},
    }
}


router = APIRouter()


@router.post(
    "/v1/caption",
    summary="Caption a photograph",
    response_model=CaptionAnswer,
    responses=documented(*_UPLOADING, problems.UNREADABLE),
    openapi_extra=_ONE,
    tags=["captions"],
)
async def caption(request: Request, query: Annotated[Guided, Query()], service: Serving) -> Response:
    """A sentence for a photograph, with the probability of each word and, where asked for, where it looked."""

    async def as_json(found: Caption) -> Response:
        return JSONResponse(found.to_dict(attention=query.attention))

    return await service.caption_one(request, query, as_json)


@router.post(
    "/v1/caption/figure",
    summary="Draw where each word looked",
    response_class=Response,
    responses={
        200: {"description": "The figure.", "content": {"image/png": _BINARY}},
        **documented(*_UPLOADING, problems.UNREADABLE),
    },
    openapi_extra=_ONE,
    tags=["captions"],
)
async def figure(request: Request, query: Annotated[Guided, Query()], service: Serving) -> Response:
    """The photograph once for every word of its caption, with the word's map laid over it."""

    async def as_png(found: Caption) -> Response:
        return Response(await service.batcher.draw(found), media_type="image/png")

    return await service.caption_one(request, query, as_png)


@router.post(
    "/v1/caption/batch",
    summary="Caption several photographs",
    response_model=BatchAnswer,
    responses=documented(*_UPLOADING),
    openapi_extra=_SEVERAL,
    tags=["captions"],
)
async def batch(request: Request, query: Annotated[Search, Query()], service: Serving) -> Response:
    """Captions in the order of the photographs; one that cannot be read has an error in its place."""
    captions = await service.caption_several(request, query)
    return JSONResponse({"captions": [found.to_dict(attention=query.attention) for found in captions]})


@router.get("/v1/model", summary="The captioner", responses=documented(*problems.EVERYWHERE), tags=["service"])
async def model(service: Serving) -> ModelAnswer:
    """The captioner that answers, its defaults of the search, and the limits of the service."""
    captioner, settings = service.batcher.captioner, service.settings
    rows, columns = captioner.grid
    return {
        "name": captioner.name,
        "version": __version__,
        "vocabulary": len(captioner.vocabulary),
        "grid": {"rows": rows, "columns": columns},
        "calibrated": captioner.calibration is not None,
        "decoding": {
            "beam": captioner.options.beam,
            "length_penalty": captioner.options.length_penalty,
            "max_words": captioner.options.max_words,
        },
        "limits": {
            "upload_bytes": settings.upload_bytes,
            "batch_upload_bytes": settings.batch_upload_bytes,
            "batch_photographs": settings.batch_photographs,
            "pixels": settings.pixels,
            "beam": MOST_BEAM,
            "max_words": MOST_WORDS,
            "alternatives": MOST_ALTERNATIVES,
        },
    }


@router.get("/healthz", summary="Is it alive", tags=["service"])
async def healthz() -> Health:
    """Answers as long as the process does."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Does it take photographs",
    responses=documented(problems.STOPPING),
    tags=["service"],
)
async def readyz(service: Serving) -> Health:
    """503 while the service stops."""
    if not service.batcher.ready:
        raise Problem(problems.STOPPING, "the service takes no photographs", retry_after=5)
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="Counts and durations, for Prometheus",
    response_class=Response,
    responses={
        200: {"description": "Metrics.", "content": {metrics.CONTENT_TYPE: {"schema": {"type": "string"}}}},
        **documented(*problems.EVERYWHERE),
    },
    tags=["service"],
)
async def tell(service: Serving) -> Response:
    """Answers, durations by part, the queue, batch sizes, refusals, the process."""
    return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)
