"""The routes under /v1, and what monitors ask."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from captionlens._version import __version__
from captionlens.errors import OptionError, RegionError, UnreadableImage
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.request import CaptionRequest
from captionlens.server import metrics, problems, uploads
from captionlens.server.batching import Batcher, places_of
from captionlens.server.problems import Problem, documented
from captionlens.server.schemas import BatchAnswer, CaptionAnswer, Guided, Health, ModelAnswer, Search
from captionlens.server.settings import MOST_ALTERNATIVES, MOST_BEAM, MOST_WORDS, Settings

T = TypeVar("T")

_EVERYWHERE = (problems.UNAUTHORIZED, problems.MISDIRECTED)
_UPLOADING = (
    *_EVERYWHERE, problems.MALFORMED, problems.CROSS_SITE, problems.SLOW, problems.TOO_LARGE, problems.UNSUPPORTED,
    problems.BAD_OPTION, problems.TOO_FAST, problems.FULL, problems.LATE, problems.STOPPING,
)  # fmt: skip
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary"}


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {"file": schema}
    return {"schema": {"type": "object", "required": ["file"], "properties": properties}}


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


def make_router(batcher: Batcher, settings: Settings, told: metrics.Metrics) -> APIRouter:
    """All routes but the page's.

    Args:
        batcher: captions photographs.
        settings: limits.
        told: what /metrics tells.
    """
    router = APIRouter()
    captioner = batcher.captioner

    @router.post(
        "/v1/caption",
        summary="Caption a photograph",
        response_model=CaptionAnswer,
        responses=documented(*_UPLOADING, problems.UNREADABLE),
        openapi_extra=_ONE,
        tags=["captions"],
    )
    async def caption(request: Request, query: Annotated[Guided, Query()]) -> Response:
        """A sentence for a photograph, with the probability of each word and, where asked for, where it looked."""

        async def as_json(found: Caption) -> Response:
            return JSONResponse(found.to_dict(attention=query.attention))

        return await _answer(request, query, as_json)

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
    async def figure(request: Request, query: Annotated[Guided, Query()]) -> Response:
        """The photograph once for every word of its caption, with the word's map laid over it."""

        async def as_png(found: Caption) -> Response:
            return Response(await batcher.draw(found), media_type="image/png")

        return await _answer(request, query, as_png)

    @router.post(
        "/v1/caption/batch",
        summary="Caption several photographs",
        response_model=BatchAnswer,
        responses=documented(*_UPLOADING),
        openapi_extra=_SEVERAL,
        tags=["captions"],
    )
    async def batch(request: Request, query: Annotated[Search, Query()]) -> Response:
        """Captions in the order of the photographs; one that cannot be read has an error in its place."""
        asked = query.request(captioner)

        async with _in_time():
            batcher.check_room()
            files = await _uploaded(uploads.read_several(request, settings.batch_photographs, settings.pixels))
            with batcher.room(len(files)):
                work = asyncio.gather(*(_or_error(file, asked) for file in files))
                captions = await unless_gone(request, work)
        return JSONResponse({"captions": [found.to_dict(attention=query.attention) for found in captions]})

    @router.get("/v1/model", summary="The captioner", responses=documented(*_EVERYWHERE), tags=["service"])
    async def model() -> ModelAnswer:
        """Which captioner answers, how it searches unless a request says otherwise, and what the service takes."""
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
    async def readyz() -> Health:
        """503 while the service stops."""
        if not batcher.ready:
            raise Problem(problems.STOPPING, "the service takes no photographs", retry_after=5)
        return {"status": "ready"}

    @router.get(
        "/metrics",
        summary="Counts and durations, for Prometheus",
        response_class=Response,
        responses={
            200: {"description": "Metrics.", "content": {metrics.CONTENT_TYPE: {"schema": {"type": "string"}}}},
            **documented(*_EVERYWHERE),
        },
        tags=["service"],
    )
    async def tell() -> Response:
        """Answers, durations by part, the queue, batch sizes, refusals, the process."""
        return Response(told.text(), media_type=metrics.CONTENT_TYPE)

    async def _answer(request: Request, query: Guided, finish: Callable[[Caption], Awaitable[T]]) -> T:
        """What `finish` makes of the caption of the photograph in the request."""
        asked = query.request(captioner)
        async with _in_time():
            batcher.check_room(places_of(asked))
            upload = await _uploaded(uploads.read_one(request, settings.pixels))

            async def work() -> T:
                return await finish(await batcher.caption(upload, asked))

            try:
                with batcher.room(places_of(asked)):
                    return await unless_gone(request, work())
            except UnreadableImage as error:
                nameless = upload.name == uploads.NAMELESS
                raise Problem(problems.UNREADABLE, error.cause if nameless else str(error)) from error
            except OptionError as error:
                raise Problem(problems.BAD_OPTION, str(error)) from error
            except RegionError as error:
                raise Problem(problems.BAD_OPTION, f"region: {error.cause}") from error

    async def _or_error(photograph: Photograph, asked: CaptionRequest) -> Caption:
        try:
            return await batcher.caption(photograph, asked)
        except UnreadableImage as error:
            return Caption("", path=photograph.name, error=error)

    @asynccontextmanager
    async def _in_time() -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(settings.timeout):
                yield
        except TimeoutError as error:
            raise Problem(problems.LATE, f"no answer within {settings.timeout:g} seconds", retry_after=5) from error

    async def _uploaded(reading: Awaitable[T]) -> T:
        most = settings.timeout / 2  # the other half is for waiting and captioning
        began = time.perf_counter()
        try:
            async with asyncio.timeout(most):
                return await reading
        except TimeoutError as error:
            raise Problem(problems.SLOW, f"not whole after {most:g} seconds") from error
        finally:
            told.part_seconds.labels("upload").observe(time.perf_counter() - began)

    return router


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What `work` gives, unless the client goes first: then the work is given up.

    Args:
        request: whose body has been read.
        work: for it.

    Raises:
        ClientDisconnect: nobody waits for the answer any more.
    """

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(leave())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        working.cancel()
        leaving.cancel()
