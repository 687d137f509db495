"""The files of the page, read once: no request names a file."""

import hashlib
import mimetypes
from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter, Request
from starlette.responses import Response

from captionlens.frontend import assets
from captionlens.server import problems
from captionlens.server.problems import Problem

_TYPES = {".mjs": "text/javascript"}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str

    def answer(self, request: Request) -> Response:
        """The file, or that the browser has it already."""
        headers = {"ETag": self.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


def make_page_router() -> APIRouter:
    """GET /, /docs and /page/NAME."""
    files = {name: _file(name, assets.read(name).encode()) for name in (*assets.MODULES, *assets.STYLES)}
    for own in resources.files("captionlens.server").joinpath("page").iterdir():
        files[own.name] = _file(own.name, own.read_bytes())
    index, docs = files.pop("index.html"), files.pop("docs.html")
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])  # by HEAD, Ollama's command asks whether the service is there
    async def page(request: Request) -> Response:
        return index.answer(request)

    @router.get("/docs")
    async def documentation(request: Request) -> Response:
        return docs.answer(request)

    @router.get("/page/{name}")
    async def file(request: Request, name: str) -> Response:
        if name not in files:
            raise Problem(problems.NOT_FOUND, "the page has no such file")
        return files[name].answer(request)

    return router


def _file(name: str, content: bytes) -> _File:
    suffix = "." + name.rpartition(".")[2]
    if suffix == ".html":
        content = assets.fill(content.decode()).encode()
    media_type = _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")
    return _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
