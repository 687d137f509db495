"""Access control, upload limits and the rate limit, by plain ASGI: hosts, origins, tokens, bytes."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from captionlens.server import problems
from captionlens.server.guard import Guard, Pace
from captionlens.server.metrics import Metrics
from captionlens.server.problems import Problem
from captionlens.server.settings import Settings
from helpers.asgi import ask
from helpers.server import Answer

MIB = 2**20


class Reader:
    """An application that reads the whole body and answers with its size, once `gate` is open."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.has_read = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        self.has_read.set()
        await self.gate.wait()
        await PlainTextResponse(str(size))(scope, receive, send)


def guarded(**settings: Any) -> tuple[Guard, Reader, Metrics]:
    reader, metrics = Reader(), Metrics()
    return Guard(reader, Settings(**settings), metrics), reader, metrics


def answer_of(
    method: str, path: str, headers: Mapping[str, str], body: list[bytes] | None = None, **settings: Any
) -> Answer:
    return asyncio.run(ask(guarded(**settings)[0], method, path, body, headers))


# Hosts and origins.


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8000", 200),
        ("localhost.", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:8000", 200),
        ("captions.example", 200),
        ("CAPTIONS.example:443", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("localhost@evil.example", 421),
        ("10.1.2.3", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_hosts(host: str, status: int) -> None:
    answer = answer_of("GET", "/", {"Host": host}, allow_hosts=("Captions.Example",))
    assert answer.status == status
    assert status == 200 or answer.problem == "host-not-served"
    assert answer_of("GET", "/", {"Host": host}, allow_hosts=("*",)).status == 200
    for path in ("/healthz", "/readyz"):
        assert answer_of("GET", path, {"Host": host}).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:8000"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "https://example.org", "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "https://example.org.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
    ],
)
def test_pages_of_other_sites(headers: dict[str, str], status: int) -> None:
    answer = answer_of("POST", "/v1/caption", headers, [b"x"], allow_origins=("https://example.org",))
    assert answer.status == status
    assert status == 200 or answer.problem == "cross-site"
    for method in ("GET", "HEAD", "OPTIONS"):
        assert answer_of(method, "/v1/model", headers).status == 200


# The token.


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("Bearer s3cret", 200),
        ("bearer  s3cret ", 200),
        ("Bearer S3cret", 401),
        ("Bearer s3cret2", 401),
        ("Bearer", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ("", 401),
    ],
)
def test_the_token(given: str, status: int) -> None:
    headers = {"Authorization": given} if given else {}
    for method, path in (("POST", "/v1/caption"), ("GET", "/v1/model"), ("GET", "/metrics"), ("GET", "/v1/none")):
        answer = answer_of(method, path, headers, token="s3cret")
        assert answer.status == status
        if status == 401:
            assert answer.problem == "token-wanted"
            assert answer.headers["www-authenticate"] == 'Bearer realm="captionlens"'
    for path in ("/", "/docs", "/page/page.mjs", "/openapi.json", "/healthz", "/readyz"):
        assert answer_of("GET", path, headers, token="s3cret").status == 200
    assert answer_of("OPTIONS", "/v1/caption", headers, token="s3cret").status == 200


def test_the_token_below_a_path() -> None:
    guard, reader, metrics = guarded(token="s3cret")
    answer = asyncio.run(ask(guard, "GET", "/v1/model", root_path="/captions"))
    assert answer.status == 401 and reader.calls == 0
    assert metrics.registry.get_sample_value("captionlens_rejected_total", {"problem": "token-wanted"}) == 1


# Bytes.


@pytest.mark.parametrize("root_path", ["", "/captions"])
@pytest.mark.parametrize(
    ("path", "parts", "status"),
    [
        ("/v1/caption", [100], 200),
        ("/v1/caption", [60, 40], 200),
        ("/v1/caption", [60, 41], 413),
        ("/v1/caption/figure", [101], 413),
        ("/v1/caption/batch", [101], 200),
        ("/v1/caption/batch", [100, 100], 200),
        ("/v1/caption/batch", [100, 100, 1], 413),
        ("/api/generate", [100, 100], 200),
        ("/api/chat", [101], 200),
        ("/v1/chat/completions", [101], 200),
    ],
)
def test_a_body_has_a_limit(path: str, parts: list[int], status: int, root_path: str) -> None:
    for chunked in (False, True):
        guard, reader, _ = guarded(upload_bytes=100, batch_upload_bytes=200)
        body = [b"x" * part for part in parts]
        headers = {"Transfer-Encoding": "chunked"} if chunked else {}
        answer = asyncio.run(ask(guard, "POST", path, body, headers, root_path=root_path))
        assert answer.status == status
        if status == 200:
            assert answer.content == str(sum(parts)).encode()
        else:
            assert answer.problem == "upload-too-large"
            assert reader.calls == chunked  # what a header declares too large is not read
        assert body == []  # the rest of the body is read before the response


def test_a_refused_body_is_read_up_to_a_limit() -> None:
    guard, _, _ = guarded(token="s3cret")
    body = [bytes(16 * MIB)] * 6
    assert asyncio.run(ask(guard, "POST", "/v1/caption", body)).status == 401
    assert len(body) == 2  # four parts of 16 MiB are 64


@pytest.mark.parametrize("headers", [{}, {"Expect": "100-continue", "Content-Length": "10"}])
def test_a_body_that_is_not_sent_is_not_waited_for(headers: dict[str, str]) -> None:
    guard, _, _ = guarded(token="s3cret")

    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/caption",
        "headers": [(b"host", b"localhost"), *((name.lower().encode(), v.encode()) for name, v in headers.items())],
    }
    asyncio.run(guard(scope, receive, send))
    assert sent[0]["status"] == 401


def test_all_uploads_together_have_a_limit() -> None:
    async def scenario() -> None:
        guard, reader, metrics = guarded(uploads_bytes=150)
        reader.gate.clear()
        first = asyncio.create_task(ask(guard, "POST", "/v1/caption", [b"x" * 100]))
        await reader.has_read.wait()
        refused = await ask(guard, "POST", "/v1/caption", [b"x" * 51])
        assert refused.status == 503 and refused.problem == "queue-full"
        reader.gate.set()
        assert (await ask(guard, "POST", "/v1/caption", [b"x" * 50])).status == 200
        assert (await first).status == 200
        assert (await ask(guard, "POST", "/v1/caption", [b"x" * 150])).status == 200  # all is released
        assert metrics.registry.get_sample_value("captionlens_rejected_total", {"problem": "queue-full"}) == 1

    asyncio.run(scenario())


def test_an_error_of_the_application_releases_its_body() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise RuntimeError

    async def scenario() -> None:
        guard = Guard(fails, Settings(uploads_bytes=100), Metrics())
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await ask(guard, "POST", "/v1/caption", [b"x" * 100])

    asyncio.run(scenario())


# The rate.


def refusal(pace: Pace, client: str, now: float) -> int | None:
    """The seconds of Retry-After, or None where the request is allowed."""
    try:
        pace.take(client, now)
    except Problem as problem:
        assert problem.kind is problems.TOO_FAST
        return problem.retry_after
    return None


def test_a_bucket_fills_evenly_up_to_a_minute_of_requests() -> None:
    pace = Pace(3)  # one in 20 seconds
    assert [refusal(pace, "a", 1000.0) for _ in range(5)] == [None, None, None, 20, 20]
    assert refusal(pace, "a", 1005.0) == 15
    assert refusal(pace, "a", 1019.5) == 1
    assert [refusal(pace, "a", 1020.0) for _ in range(2)] == [None, 20]
    assert [refusal(pace, "a", 1070.0) for _ in range(3)] == [None, None, 10]  # half of the third has come
    assert [refusal(pace, "a", 9000.0) for _ in range(4)] == [None, None, None, 20]  # no more than three are saved


def test_clients_are_counted_apart() -> None:
    pace = Pace(1)
    assert [refusal(pace, client, 0.0) for client in "abab"] == [None, None, 60, 60]


def test_no_rate_is_no_limit() -> None:
    pace = Pace(0)
    assert {refusal(pace, "a", 0.0) for _ in range(1000)} == {None}


def test_clients_seen_longest_ago_are_forgotten() -> None:
    pace = Pace(1)
    assert refusal(pace, "first", 0.0) is None
    assert refusal(pace, "second", 0.0) is None
    assert refusal(pace, "first", 0.0) == 60
    for number in range(9_999):
        pace.take(str(number), 0.0)
    assert refusal(pace, "first", 0.0) == 60
    assert refusal(pace, "second", 0.0) is None


def test_only_posts_that_are_let_in_are_counted() -> None:
    async def scenario() -> None:
        guard, reader, _ = guarded(rate=1, token="s3cret")
        right = {"Authorization": "Bearer s3cret"}
        assert (await ask(guard, "POST", "/v1/caption", [b"x"])).status == 401
        assert (await ask(guard, "GET", "/v1/model", headers=right)).status == 200
        assert (await ask(guard, "POST", "/v1/caption", [b"x"], right)).status == 200
        refused = await ask(guard, "POST", "/v1/caption/batch", [b"x"], right)
        assert refused.status == 429 and refused.problem == "too-many-requests"
        assert (await ask(guard, "POST", "/v1/caption", [b"x"], right, client="192.0.2.2")).status == 200
        assert (await ask(guard, "GET", "/v1/model", headers=right)).status == 200
        assert reader.calls == 4

    asyncio.run(scenario())
