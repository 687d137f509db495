"""Errors in the form of the API that was called: RFC 9457's for our own routes, Ollama's and OpenAI's for theirs.

Ollama: docs/api.md of its repository, and `ResponseError` of its Python client. OpenAI: "Error codes" of its API
reference. Both know 400 where our own routes have 422.
"""

from typing import Any, Literal

from starlette.responses import JSONResponse

from captionlens.server import problems
from captionlens.server.problems import Kind, Problem

Dialect = Literal["Ollama", "OpenAI"]

_TEXT = {"type": "string"}
SCHEMAS: dict[str, Any] = {
    "OllamaError": {
        "title": "OllamaError",
        "type": "object",
        "required": ["error"],
        "properties": {"error": _TEXT},
        "additionalProperties": False,
    },
    "OpenAIError": {
        "title": "OpenAIError",
        "type": "object",
        "required": ["error"],
        "additionalProperties": False,
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "additionalProperties": False,
                "properties": {
                    "message": _TEXT,
                    "type": {"enum": ["invalid_request_error", "rate_limit_error", "server_error"]},
                    "param": {"type": ["string", "null"], "description": "The field that makes no sense."},
                    "code": {"enum": [kind.slug for kind in problems.KINDS], "description": "Stable: to compare."},
                },
            }
        },
    },
}


def dialect_of(path: str) -> Dialect | None:
    """The API that a path belongs to; None: our own.

    Args:
        path: without the root path.
    """
    if path.startswith("/api/"):
        return "Ollama"
    if path.startswith(("/v1/chat/", "/v1/models")):
        return "OpenAI"
    return None


def respond(problem: Problem, path: str) -> JSONResponse:
    """The response to a problem of a request to a path, in the form that clients of its API read.

    Args:
        problem: that happened.
        path: without the root path.
    """
    dialect = dialect_of(path)
    if dialect is None:
        return problem.response()
    message = f"{problem.kind.title}: {problems.clean(problem.detail)}"
    content = {"error": message if dialect == "Ollama" else _openai_error(problem, message)}
    return JSONResponse(content, _status(problem.kind.status), problem.all_headers())


def documented(dialect: Dialect, *kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI response objects of these problems, by status."""
    answers: dict[int | str, dict[str, Any]] = {}
    for status, answer in problems.documented(*kinds).items():
        told = _status(int(status))
        if told in answers:
            answer = answer | {"description": f"{answers[told]['description']}; {answer['description']}"}
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{dialect}Error"}}}
        answers[told] = answer | {"content": content}
    return answers


def _openai_error(problem: Problem, message: str) -> dict[str, Any]:
    status = problem.kind.status
    wrong = problem.extra.get("errors")
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {
        "message": message,
        "type": kind,
        "param": wrong[0]["parameter"] if wrong else None,
        "code": problem.kind.slug,
    }


def _status(status: int) -> int:
    return 400 if status == 422 else status
