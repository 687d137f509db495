"""Photographs from the body of a request: a raw image, or the files of a form."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.requests import Request

from captionlens.server import problems
from captionlens.server.problems import Problem, clean

NAMELESS = "-"  # as the command line calls a photograph from stdin
_LONGEST_NAME = 255
_FORM = "multipart/form-data"
_FIELD = "file"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file and the name it came with."""

    name: str
    content: bytes


async def read_one(request: Request) -> Upload:
    """The photograph of a request with one.

    Raises:
        Problem: the content type is another, the form is not well formed, or holds not exactly one photograph.
    """
    if _media_type(request) == _FORM:
        uploads = await _read_form(request, 1)
        if len(uploads) != 1:
            raise Problem(problems.MALFORMED, f"the form must hold one part {_FIELD!r}, it holds {len(uploads)}")
        return uploads[0]
    return Upload(NAMELESS, await request.body())


async def read_several(request: Request, most: int) -> list[Upload]:
    """The photographs of a request with several.

    Raises:
        Problem: as `read_one`, or there are more than `most`.
    """
    if _media_type(request) != _FORM:
        raise Problem(problems.UNSUPPORTED, f"several photographs come as {_FORM}, one part {_FIELD!r} each")
    uploads = await _read_form(request, most)
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


async def _read_form(request: Request, most: int) -> list[Upload]:
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise Problem(problems.MALFORMED, f"{_FORM} without a boundary")
    async with request.form(max_files=most + 1, max_fields=10) as form:
        files = [part for part in form.getlist(_FIELD) if isinstance(part, UploadFile)]
        if len(files) > most:
            raise Problem(problems.TOO_LARGE, f"more than {most} photographs in one request")
        return [Upload(_name(part.filename), await part.read()) for part in files]


def _name(given: str | None) -> str:
    """The last part of a client's file name, which may be anything."""
    name = PurePosixPath(clean(given or "").replace("\\", "/")).name
    return name[:_LONGEST_NAME] or NAMELESS
