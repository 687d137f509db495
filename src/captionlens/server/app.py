"""The ASGI application: its routes, error responses, middleware and OpenAPI document."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from captionlens._version import __version__
from captionlens.runtime.captioner import Captioner
from captionlens.server import completions, dialects, ollama, openai, problems
from captionlens.server.batching import Batcher
from captionlens.server.guard import Guard, route_path, wants_token
from captionlens.server.metrics import Metrics
from captionlens.server.page_files import make_page_router
from captionlens.server.problems import Problem
from captionlens.server.routes import router
from captionlens.server.service import Service
from captionlens.server.settings import Settings
from captionlens.server.watch import GONE, REQUEST_ID, Watch

_ABOUT = (
    "Captions for photographs, and for every word where the network looked. Photographs are read, captioned and "
    "forgotten; no address is ever fetched."
)
log = logging.getLogger(__name__)


def create_app(captioner: Captioner, settings: Settings | None = None) -> FastAPI:
    """The service, for any ASGI server.

    Args:
        captioner: captions the photographs.
        settings: limits and access rules; by default `Settings()`.
    """
    settings = settings or Settings()
    metrics = Metrics()
    batcher = Batcher(captioner, batch_size=settings.batch_size, queue=settings.queue, metrics=metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        batcher.close()

    app = FastAPI(
        title="captionlens",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        root_path=settings.root_path,
        lifespan=lifespan,
    )
    app.state.service = Service(batcher, settings, metrics)
    routers = (router, ollama.router, openai.router)
    for each in (*routers, make_page_router()):
        app.include_router(each)
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]
    _add_error_handlers(app, metrics)
    if settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allow_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", REQUEST_ID],
            expose_headers=["Retry-After", REQUEST_ID],
        )
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    paths = (route.path for each in routers for route in each.routes if hasattr(route, "path"))
    routes = frozenset({"/", "/docs", "/openapi.json", *paths})
    app.add_middleware(Watch, metrics=metrics, routes=routes)  # added last, stands first
    return app


def _add_error_handlers(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        metrics.rejected.labels(error.kind.slug).inc()
        return dialects.respond(error, route_path(request.scope))

    @app.exception_handler(RequestValidationError)
    async def bad_option(request: Request, error: RequestValidationError) -> Response:
        return problems.bad_options((str(entry["loc"][-1]), _message(entry)) for entry in error.errors()).response()

    @app.exception_handler(HTTPException)
    async def of_the_framework(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        problem = problems.of_status(error.status_code, error.detail, headers)
        return dialects.respond(problem, route_path(request.scope))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)


def _message(entry: dict[str, Any]) -> str:
    if entry["type"] == "extra_forbidden":
        return "there is no such parameter"
    return str(entry["msg"]).removeprefix("Value error, ")


def _openapi(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The OpenAPI document, with the schemas of problems and, where there is a token, the security scheme."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document["servers"] = [{"url": settings.root_path or "/"}]
        parts = document.setdefault("components", {})
        forms = completions.schemas_of(*ollama.FORMS, *openai.FORMS)
        parts.setdefault("schemas", {}).update(forms, **dialects.SCHEMAS, Problem=problems.SCHEMA)
        if settings.token is not None:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, methods in document["paths"].items():
                if wants_token(path):
                    for operation in methods.values():
                        operation["security"] = [{"token": []}]
        app.openapi_schema = document
    return app.openapi_schema
