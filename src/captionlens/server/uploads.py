"""Photographs from the body of a request: a raw image, or the files of a form."""

from pathlib import PurePosixPath

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.requests import Request

from captionlens.runtime.photograph import Photograph
from captionlens.server import problems
from captionlens.server.problems import Problem, clean

NAMELESS = "-"  # as the command line calls a photograph from stdin
_LONGEST_NAME = 255
_FORM = "multipart/form-data"
_FIELD = "file"


async def read_one(request: Request, pixels: int) -> Photograph:
    """The photograph of a request with one, of at most so many pixels.

    Raises:
        Problem: the content type is another, the form is not well formed, or holds not exactly one photograph.
    """
    if _media_type(request) == _FORM:
        uploads = await _read_form(request, 1, pixels)
        if len(uploads) != 1:
            raise Problem(problems.MALFORMED, f"the form must hold one part {_FIELD!r}, it holds {len(uploads)}")
        return uploads[0]
    return Photograph(await request.body(), name=NAMELESS, max_pixels=pixels)


async def read_several(request: Request, most: int, pixels: int) -> list[Photograph]:
    """The photographs of a request with several, each of at most so many pixels.

    Raises:
        Problem: as `read_one`, or there are more than `most`.
    """
    if _media_type(request) != _FORM:
        raise Problem(problems.UNSUPPORTED, f"several photographs come as {_FORM}, one part {_FIELD!r} each")
    uploads = await _read_form(request, most, pixels)
    if not uploads:
        raise Problem(problems.MALFORMED, f"the form holds no part {_FIELD!r} with a file")
    return uploads


def _media_type(request: Request) -> str:
    given = request.headers.get("content-type", "")
    media_type = given.partition(";")[0].strip().lower()
    if media_type == _FORM or media_type == "application/octet-stream" or media_type.startswith("image/"):
        return media_type
    told = repr(clean(given)[:100]) if given else "no Content-Type"
    raise Problem(problems.UNSUPPORTED, f"got {told}; wanted image/*, application/octet-stream or {_FORM}")


async def _read_form(request: Request, most: int, pixels: int) -> list[Photograph]:
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise Problem(problems.MALFORMED, f"{_FORM} without a boundary")
    async with request.form(max_files=most + 1, max_fields=10) as form:
        files = [part for part in form.getlist(_FIELD) if isinstance(part, UploadFile)]
        if len(files) > most:
            raise Problem(problems.TOO_LARGE, f"more than {most} photographs in one request")
        return [Photograph(await part.read(), name=_name(part.filename), max_pixels=pixels) for part in files]


def _name(given: str | None) -> str:
    """The last part of a client's file name, which may be anything."""
    name = PurePosixPath(clean(given or "").replace("\\", "/")).name
    return name[:_LONGEST_NAME] or NAMELESS
