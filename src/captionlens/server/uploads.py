"""Reading photographs from the body of a request: an image file as it is, the files of a form, or base64 in JSON."""

import binascii
from pathlib import PurePosixPath

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.requests import Request

from captionlens.runtime.photograph import Photograph
from captionlens.server import problems
from captionlens.server.problems import Problem, clean

NAMELESS = "-"  # as the command line calls a photograph from stdin
_LONGEST_NAME = 255
_SLICE = 2**18  # letters of base64 that are decoded at once: in between, the event loop's thread gets its turn
_FORM = "multipart/form-data"
_FIELD = "file"


async def read_one(request: Request, pixels: int) -> Photograph:
    """The photograph of a request for one.

    Args:
        request: to read.
        pixels: most pixels of the photograph.

    Raises:
        Problem: UNSUPPORTED, another content type; MALFORMED, a form that is not well formed or does not hold exactly
            one photograph; BAD_OPTION, a form with fields.
    """
    if _media_type(request) == _FORM:
        uploads = await _read_form(request, 1, pixels)
        if len(uploads) != 1:
            raise Problem(problems.MALFORMED, f"the form must hold one part {_FIELD!r}, it holds {len(uploads)}")
        return uploads[0]
    return Photograph(await request.body(), name=NAMELESS, max_pixels=pixels)


async def read_several(request: Request, most: int, pixels: int) -> list[Photograph]:
    """The photographs of a request for several.

    Args:
        request: to read.
        most: most photographs.
        pixels: most pixels of each photograph.

    Raises:
        Problem: as `read_one`, and TOO_LARGE for more photographs than `most`.
    """
    if _media_type(request) != _FORM:
        raise Problem(problems.UNSUPPORTED, f"several photographs come as {_FORM}, one part {_FIELD!r} each")
    uploads = await _read_form(request, most, pixels)
    if not uploads:
        raise Problem(problems.MALFORMED, f"the form holds no part {_FIELD!r} with a file")
    return uploads


def from_base64(text: str, name: str, *, most: int, pixels: int) -> Photograph:
    """The photograph of a text in base64 (RFC 4648), which may be a `data:` URL (RFC 2397).

    Args:
        text: to read. Other addresses are refused: none is ever fetched.
        name: of the photograph.
        most: most bytes of its file.
        pixels: most pixels of the photograph.

    Raises:
        Problem: UNREADABLE, an address or no base64; TOO_LARGE.
    """
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise Problem(problems.UNREADABLE, f"{name} must be base64, as in data:image/jpeg;base64,...")
    elif "://" in text[:40]:
        detail = f"{name} is an address, and this service fetches none: send the photograph itself, in base64"
        raise Problem(problems.UNREADABLE, detail)
    letters = "".join(text.split())
    slices = (letters[at : at + _SLICE] for at in range(0, len(letters), _SLICE))
    try:
        content = b"".join(binascii.a2b_base64(part, strict_mode=True) for part in slices)
    except ValueError as error:  # binascii.Error, or letters beyond ASCII
        raise Problem(problems.UNREADABLE, f"{name} is not base64 ({error})") from error
    if len(content) > most:
        raise Problem(problems.TOO_LARGE, f"{name} has more than {most} bytes")
    return Photograph(content, name=name, max_pixels=pixels)


def _media_type(request: Request) -> str:
    given = request.headers.get("content-type", "")
    media_type = given.partition(";")[0].strip().lower()
    if media_type == _FORM or media_type == "application/octet-stream" or media_type.startswith("image/"):
        return media_type
    named = repr(clean(given)[:100]) if given else "no Content-Type"
    raise Problem(problems.UNSUPPORTED, f"got {named}; wanted image/*, application/octet-stream or {_FORM}")


async def _read_form(request: Request, most: int, pixels: int) -> list[Photograph]:
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise Problem(problems.MALFORMED, f"{_FORM} without a boundary")
    async with request.form(max_files=most + 1, max_fields=10) as form:
        files = _files(form.multi_items())
        if len(files) > most:
            raise Problem(problems.TOO_LARGE, f"more than {most} photographs in one request")
        return [Photograph(await part.read(), name=_name(part.filename), max_pixels=pixels) for part in files]


def _files(parts: list[tuple[str, UploadFile | str]]) -> list[UploadFile]:
    """The files of a form, whose other parts are refused: a client that sends an option there expects an effect."""
    fields = dict.fromkeys(name for name, part in parts if isinstance(part, str) and name != _FIELD)
    if fields:
        raise problems.bad_options((name, "is a field of the form; parameters go into the query") for name in fields)
    files = []
    for name, part in parts:
        if name != _FIELD:
            raise Problem(problems.MALFORMED, f"a part of the form is {clean(name)[:100]!r}; wanted {_FIELD!r} alone")
        if isinstance(part, str):
            raise Problem(problems.MALFORMED, f"a part {_FIELD!r} of the form has no file name")
        files.append(part)
    return files


def _name(given: str | None) -> str:
    """The last component of a file name that a client chose freely."""
    name = PurePosixPath(clean(given or "").replace("\\", "/")).name
    return name[:_LONGEST_NAME] or NAMELESS
