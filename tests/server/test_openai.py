"""OpenAI's API, asked by OpenAI's own Python client: without a socket with a small network, and over a connection."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("openai", reason="needs the package openai")
import httpx2
from openai import AsyncOpenAI, AuthenticationError, BadRequestError, InternalServerError, NotFoundError, OpenAI
from starlette.types import ASGIApp

from captionlens.runtime.captioner import Captioner, load
from helpers.asgi import ask
from helpers.bright_network import BLACK, WHITE, BrightNetwork
from helpers.paths import REPOSITORY
from helpers.server import RunningServer, start_server
from helpers.service import data_url, run

TOKEN = "s3cret"
CAT = (REPOSITORY / "examples" / "photographs" / "cat.jpg").read_bytes()
MAN = (REPOSITORY / "examples" / "photographs" / "photographer.jpg").read_bytes()


def asked(scenario: Callable[[AsyncOpenAI], Awaitable[None]], *network: BrightNetwork, **settings: Any) -> None:
    """Run a scenario with a client of the application with the small network."""

    async def with_client(app: ASGIApp) -> None:
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http,
            AsyncOpenAI(base_url="http://localhost:8000/v1", api_key="none", http_client=http, max_retries=0) as client,
        ):
            await scenario(client)

    run(with_client, *network, **settings)


def user(*images: bytes | str) -> Any:
    """A message with a question and images."""
    urls = [image if isinstance(image, str) else data_url(image) for image in images]
    parts = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": "What is there?"}, *parts]}


# Without a socket.


def test_the_answer_is_the_caption_and_says_who_speaks() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(model="gpt-4o", messages=[user(WHITE, BLACK)])
        (choice,) = answer.choices
        assert (choice.message.role, choice.message.content) == ("assistant", "bright\ndark")
        assert (choice.index, choice.finish_reason) == (0, "stop")
        assert (answer.model, answer.object) == ("bright", "chat.completion")
        assert answer.id.startswith("chatcmpl-") and answer.created > 1.7e9
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (0, 2, 2)
        again = await client.chat.completions.create(model="gpt-4o", messages=[user(WHITE)])
        assert again.id != answer.id

    asked(scenario)


def test_a_stream_has_the_caption_and_its_end() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(model="x", messages=[user(WHITE)], stream=True)
        chunks = [chunk async for chunk in stream]
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["bright", None]
        assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, "stop"]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert {(chunk.id, chunk.model, chunk.object) for chunk in chunks} == {
            (chunks[0].id, "bright", "chat.completion.chunk")
        }
        assert "usage" not in chunks[0].model_fields_set
        stream = await client.chat.completions.create(
            model="x", messages=[user(WHITE)], stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = [chunk async for chunk in stream]
        assert [chunk.usage for chunk in chunks] == [None, None] and "usage" in chunks[0].model_fields_set
        assert last.choices == [] and last.usage is not None and last.usage.completion_tokens == 1
        async with client.chat.completions.stream(model="x", messages=[user(BLACK)]) as events:
            assert (await events.get_final_completion()).choices[0].message.content == "dark"

    asked(scenario)


def test_events_end_as_openais_do() -> None:
    async def scenario(app: ASGIApp) -> None:
        body = json.dumps({"messages": [user(WHITE)], "stream": True}).encode()
        answer = await ask(app, "POST", "/v1/chat/completions", [body])
        assert answer.headers["content-type"].startswith("text/event-stream")
        *chunks, end, nothing = answer.content.decode().split("\n\n")
        assert (end, nothing) == ("data: [DONE]", "")
        assert all(json.loads(chunk.removeprefix("data: "))["object"] == "chat.completion.chunk" for chunk in chunks)

    run(scenario)


def test_the_photographs_asked_about_are_those_since_the_last_answer() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        async def said(*messages: Any) -> str | None:
            return (await client.chat.completions.create(model="x", messages=messages)).choices[0].message.content

        question: Any = {"role": "user", "content": "Really?"}
        answer: Any = {"role": "assistant", "content": "bright"}
        assert await said(user(WHITE), question) == "bright"
        assert await said(user(WHITE), user(BLACK), question) == "bright\ndark"
        assert await said(user(WHITE), answer, question) == "bright"
        assert await said({"role": "system", "content": "x"}, user(WHITE), answer, user(BLACK)) == "dark"

    asked(scenario)


def test_an_address_may_stand_without_an_object_around_it() -> None:
    async def scenario(app: ASGIApp) -> None:
        message = {"role": "user", "content": [{"type": "image_url", "image_url": data_url(BLACK)}]}
        answer = await ask(app, "POST", "/v1/chat/completions", [json.dumps({"messages": [message]}).encode()])
        assert answer.json["choices"][0]["message"]["content"] == "dark"

    run(scenario)


def test_the_one_model_is_listed() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        assert [model.id async for model in client.models.list()] == ["bright"]

    asked(scenario)


@pytest.mark.parametrize(
    ("more", "code", "param", "told"),
    [
        ({"messages": [{"role": "user", "content": "What is there?"}]}, "malformed-request", None, "no image"),
        ({"messages": []}, "malformed-request", None, "no image"),
        ({"messages": [user(WHITE[:60])]}, "unreadable-image", None, "image 1: "),
        ({"messages": [user(WHITE, "https://example.org/a.jpg")]}, "unreadable-image", None, "image 2 is an address"),
        ({"n": 2}, "bad-option", "n", "n: "),
        ({"max_tokens": 0}, "bad-option", "max_tokens", "max_tokens: "),
        ({"response_format": {"type": "json_object"}}, "bad-option", "response_format.type", "not with JSON"),
    ],
)
def test_what_cannot_be_answered_is_an_error_that_openais_client_reads(
    more: dict[str, Any], code: str, param: str | None, told: str
) -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.create(**{"model": "x", "messages": [user(WHITE)], **more})
        error = caught.value
        assert (error.code, error.param, error.type) == (code, param, "invalid_request_error")
        assert told in error.message

    asked(scenario)


def test_what_openai_can_do_and_a_captioner_cannot_is_not_there() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        with pytest.raises(NotFoundError):
            await client.embeddings.create(model="x", input="text")
        with pytest.raises(NotFoundError):
            await client.models.retrieve("gpt-4o")

    asked(scenario)


def test_a_full_queue_is_told_as_openais_client_understands_it() -> None:
    network = BrightNetwork()
    network.gate.clear()

    async def scenario(client: AsyncOpenAI) -> None:
        first = asyncio.create_task(client.chat.completions.create(model="x", messages=[user(WHITE)]))
        await asyncio.to_thread(network.entered.wait)
        with pytest.raises(InternalServerError) as caught:  # after which the client comes again, if it may
            await client.chat.completions.create(model="x", messages=[user(WHITE)])
        assert caught.value.status_code == 503 and int(caught.value.response.headers["retry-after"]) >= 1
        assert (caught.value.code, caught.value.type) == ("queue-full", "server_error")
        network.gate.set()
        assert (await first).choices[0].message.content == "bright"

    asked(scenario, network, queue=1)


# Over a connection.


@pytest.fixture(scope="module")
def small_server(small_model: Path) -> Iterator[RunningServer]:
    with start_server("--model", small_model, "--threads", "1", env={"CAPTIONLENS_TOKEN": TOKEN}) as running:
        yield running


@pytest.fixture(scope="module")
def small_captioner(small_model: Path) -> Captioner:
    return load(small_model, threads=1)


@pytest.mark.slow
def test_the_captions_are_those_that_python_gives(
    small_server: RunningServer, small_captioner: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{small_server.url}v1")
    monkeypatch.setenv("OPENAI_API_KEY", TOKEN)
    cat, man = (small_captioner.caption(photograph) for photograph in (CAT, MAN))
    with OpenAI(max_retries=0) as client:
        answer = client.chat.completions.create(model="x", messages=[user(CAT, MAN)])
        assert answer.choices[0].message.content == f"{cat.text}\n{man.text}"
        assert answer.model == "captionlens-small"
        assert answer.usage is not None and answer.usage.completion_tokens == len(cat.words) + len(man.words)
        stream = client.chat.completions.create(model="x", messages=[user(MAN)], stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == man.text
        assert [model.id for model in client.models.list()] == ["captionlens-small"]


@pytest.mark.slow
def test_a_caption_has_as_many_words_as_are_wanted(small_server: RunningServer, small_captioner: Captioner) -> None:
    short = small_captioner.caption(CAT, small_captioner.request(max_words=2))
    with OpenAI(base_url=f"{small_server.url}v1", api_key=TOKEN, max_retries=0) as client:
        wanted: tuple[dict[str, Any], ...] = ({"max_tokens": 2}, {"max_completion_tokens": 2, "max_tokens": 5})
        for most in wanted:
            answer = client.chat.completions.create(model="x", messages=[user(CAT)], **most)
            assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (short.text, "length")


@pytest.mark.slow
def test_without_the_right_token_nothing_is_answered(small_server: RunningServer) -> None:
    with OpenAI(base_url=f"{small_server.url}v1", api_key="wrong", max_retries=0) as client:
        for asking in (
            lambda: client.models.list(),
            lambda: client.chat.completions.create(model="x", messages=[user(CAT)]),
        ):
            with pytest.raises(AuthenticationError) as caught:
                asking()
            assert caught.value.code == "token-wanted"
