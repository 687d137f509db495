"""Error responses: `application/problem+json` (RFC 9457) with stable types, without paths or tracebacks."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
_URN = "urn:captionlens:problem:"
_LONGEST_NAME = 100  # of a parameter that a client made up


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of problem: the slug of its URN, its HTTP status, and its title."""

    slug: str
    status: int
    title: str


MALFORMED = Kind("malformed-request", 400, "The request is not well formed")
UNAUTHORIZED = Kind("token-wanted", 401, "This service wants a token")
CROSS_SITE = Kind("cross-site", 403, "Pages of other sites may not ask this service")
NOT_FOUND = Kind("not-found", 404, "There is nothing here")
NOT_ALLOWED = Kind("method-not-allowed", 405, "This address does not take this method")
SLOW = Kind("upload-too-slow", 408, "The upload took too long")
TOO_LARGE = Kind("upload-too-large", 413, "The upload is too large")
UNSUPPORTED = Kind("unsupported-media-type", 415, "This service takes photographs")
MISDIRECTED = Kind("host-not-served", 421, "The service does not go by this name")
UNREADABLE = Kind("unreadable-image", 422, "The photograph cannot be read")
BAD_OPTION = Kind("bad-option", 422, "A parameter makes no sense")
TOO_FAST = Kind("too-many-requests", 429, "More requests than this client may send")
BROKEN = Kind("internal-error", 500, "Something went wrong in the service")
FULL = Kind("queue-full", 503, "Too many photographs are waiting")
LATE = Kind("too-late", 503, "The request waited too long")
STOPPING = Kind("stopping", 503, "The service is stopping")

KINDS = tuple(kind for kind in list(globals().values()) if isinstance(kind, Kind))
EVERYWHERE = (UNAUTHORIZED, MISDIRECTED)
UPLOADING = (*EVERYWHERE, MALFORMED, CROSS_SITE, SLOW, TOO_LARGE, BAD_OPTION, TOO_FAST, FULL, LATE, STOPPING)


@dataclass(eq=False)
class Problem(Exception):
    """An error response, raised.

    Args:
        kind: one of KINDS.
        detail: explanation of this occurrence, for a person.
        retry_after: seconds after which the client should try again.
        headers: additional headers of the response.
        extra: additional members of the JSON object.
    """

    kind: Kind
    detail: str
    retry_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """The HTTP response."""
        return JSONResponse(self.content(), self.kind.status, self.all_headers(), MEDIA_TYPE)

    def all_headers(self) -> dict[str, str]:
        """The headers of the response."""
        retry = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return {**self.headers, **retry}

    def content(self) -> dict[str, Any]:
        """The JSON object of the response."""
        return {
            "type": _URN + self.kind.slug,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": clean(self.detail),
            **self.extra,
        }


def clean(text: str) -> str:
    """`text` without what JSON or a log line cannot hold: lone surrogates become `?`, control characters spaces."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in text)


def bad_options(errors: Iterable[tuple[str, str]]) -> Problem:
    """BAD_OPTION with the member `errors`.

    Args:
        errors: for each parameter, its name and what is wrong with it.
    """
    listed = [{"parameter": clean(name)[:_LONGEST_NAME], "message": clean(message)} for name, message in errors]
    detail = "; ".join(f"{entry['parameter']}: {entry['message']}" for entry in listed)
    return Problem(BAD_OPTION, detail, extra={"errors": listed})


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI response objects of these problems, by status."""
    answers: dict[int | str, dict[str, Any]] = {}
    for status in sorted({kind.status for kind in kinds}):
        of_status = [kind for kind in kinds if kind.status == status]
        headers: dict[str, Any] = {}
        if status in (429, 503):
            headers["Retry-After"] = {
                "description": "Seconds after which it may go better.",
                "required": True,
                "schema": {"type": "integer", "minimum": 1},
            }
        if status == 401:
            headers["WWW-Authenticate"] = {"required": True, "schema": {"type": "string"}}
        answers[status] = {
            "description": "; ".join(f"{kind.title} (`{_URN}{kind.slug}`)" for kind in of_status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            **({"headers": headers} if headers else {}),
        }
    return answers


SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "An error, as RFC 9457 describes it.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [_URN + kind.slug for kind in KINDS], "description": "Stable: to compare."},
        "title": {"type": "string", "description": "What the type means."},
        "status": {"type": "integer", "enum": sorted({kind.status for kind in KINDS})},
        "detail": {"type": "string", "description": "What is wrong this time, for a person."},
        "errors": {
            "type": "array",
            "description": "The parameters that make no sense.",
            "items": {
                "type": "object",
                "required": ["parameter", "message"],
                "properties": {"parameter": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def of_status(status: int, detail: str | None, headers: dict[str, str] | None = None) -> Problem:
    """The problem for an HTTP error that the framework raised, which knows only its status."""
    kind = next((kind for kind in KINDS if kind.status == status), MALFORMED if status < 500 else BROKEN)
    return Problem(kind, detail or HTTPStatus(status).phrase, headers=headers or {})
