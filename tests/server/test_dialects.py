"""Errors in the forms of three APIs."""

import json

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
from starlette.types import ASGIApp

from captionlens.server import dialects, problems
from captionlens.server.problems import Problem
from helpers.asgi import ask
from helpers.bright_network import WHITE, BrightNetwork
from helpers.service import base64_of, run

OURS = ("/v1/caption", "/v1/caption/batch", "/v1/model", "/v1/none", "/metrics", "/", "/apis")
OLLAMAS = ("/api/generate", "/api/chat", "/api/tags", "/api/none")
OPENAIS = ("/v1/chat/completions", "/v1/models", "/v1/models/none")


@pytest.mark.parametrize("kind", problems.KINDS, ids=lambda kind: kind.slug)
def test_a_problem_in_the_form_of_each_api(kind: problems.Kind) -> None:
    problem = Problem(kind, "so\tit is", retry_after=7, headers={"Allow": "GET"})
    for path in OURS:
        response = dialects.respond(problem, path)
        assert json.loads(bytes(response.body)) == problem.content()
        assert (response.status_code, response.media_type) == (kind.status, "application/problem+json")
    status = 400 if kind.status == 422 else kind.status
    message = f"{kind.title}: so it is"
    for path in (*OLLAMAS, *OPENAIS):
        response = dialects.respond(problem, path)
        told = json.loads(bytes(response.body))["error"]
        assert (response.status_code, response.media_type) == (status, "application/json")
        assert (response.headers["retry-after"], response.headers["allow"]) == ("7", "GET")
        assert told == message if path in OLLAMAS else told["message"] == message and told["code"] == kind.slug


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (Problem(problems.UNREADABLE, ""), "invalid_request_error"),
        (Problem(problems.UNAUTHORIZED, ""), "invalid_request_error"),
        (Problem(problems.TOO_FAST, ""), "rate_limit_error"),
        (Problem(problems.FULL, ""), "server_error"),
        (Problem(problems.BROKEN, ""), "server_error"),
    ],
)
def test_openai_is_told_the_kind_of_error(problem: Problem, kind: str) -> None:
    told = json.loads(bytes(dialects.respond(problem, OPENAIS[0]).body))["error"]
    assert (told["type"], told["param"]) == (kind, None)


def test_openai_is_told_the_parameter() -> None:
    problem = problems.bad_options([("n", "must be 1"), ("max_tokens", "must be at least 1")])
    assert json.loads(bytes(dialects.respond(problem, OPENAIS[0]).body))["error"]["param"] == "n"


def test_what_the_document_says_of_errors() -> None:
    told = dialects.documented("Ollama", problems.MALFORMED, problems.UNREADABLE, problems.FULL)
    assert list(told) == [400, 503]
    for kind in (problems.MALFORMED, problems.UNREADABLE):
        assert kind.title in told[400]["description"]
    assert "Retry-After" in told[503]["headers"]
    assert set(told[400]["content"]) == {"application/json"}


@pytest.mark.parametrize("root_path", ["", "/captions"])
def test_refusals_at_the_door_speak_the_same_form(root_path: str) -> None:
    async def scenario(app: ASGIApp) -> None:
        for path in (*OLLAMAS, *OPENAIS):
            for headers, code, status in (
                ({"Host": "evil.example"}, "host-not-served", 421),
                ({"Origin": "https://evil.example"}, "cross-site", 403),
                ({}, "token-wanted", 401),
                ({"Authorization": "Bearer wrong"}, "token-wanted", 401),
            ):
                answer = await ask(app, "POST", path, [b"{}"], headers, root_path=root_path)
                told = answer.json["error"]
                assert answer.status == status
                assert isinstance(told, str) if path in OLLAMAS else told["code"] == code
            right = {"Authorization": "Bearer s3cret"}
            answer = await ask(app, "DELETE", path, headers=right, root_path=root_path)
            assert answer.status == (404 if path.endswith("/none") else 405) and set(answer.json) == {"error"}

    run(scenario, token="s3cret")


def test_a_fault_of_ours_speaks_the_same_form_and_tells_nothing() -> None:
    network = BrightNetwork()

    async def scenario(app: ASGIApp) -> None:
        network.failure = RuntimeError("somewhere")
        answer = await ask(app, "POST", "/api/generate", [json.dumps({"images": [base64_of(WHITE)]}).encode()])
        assert answer.status == 500 and set(answer.json) == {"error"}
        assert "somewhere" not in answer.content.decode()

    run(scenario, network)
