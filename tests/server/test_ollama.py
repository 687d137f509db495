"""Ollama's API, asked by Ollama's own Python client: without a socket with a small network, and over a connection."""

import hashlib
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("ollama", reason="needs the package ollama")
import httpx
from ollama import AsyncClient, Client, ResponseError
from starlette.types import ASGIApp

from captionlens._version import __version__
from captionlens.runtime.captioner import Captioner, load
from captionlens.runtime.model_directory import PACKAGED_MODEL, write_manifest
from helpers.asgi import ask
from helpers.bright_network import BLACK, WHITE
from helpers.paths import REPOSITORY
from helpers.server import RunningServer, start_server
from helpers.service import base64_of, run

TOKEN = "s3cret"
PHOTOGRAPHS = REPOSITORY / "examples" / "photographs"
CAT, MAN = str(PHOTOGRAPHS / "cat.jpg"), str(PHOTOGRAPHS / "photographer.jpg")


def asked(scenario: Callable[[AsyncClient], Awaitable[None]], **settings: Any) -> None:
    """Run a scenario with a client of the application with the small network."""

    async def with_client(app: ASGIApp) -> None:
        async with AsyncClient("http://localhost:8000", transport=httpx.ASGITransport(app=app)) as client:
            await scenario(client)

    run(with_client, **settings)


def user(*images: bytes, content: str = "What is there?") -> dict[str, Any]:
    return {"role": "user", "content": content, "images": list(images)}


# Without a socket.


def test_generate_answers_with_the_caption_and_says_who_speaks() -> None:
    async def scenario(client: AsyncClient) -> None:
        answer = await client.generate("llava:7b", "What is there?", images=[WHITE])
        assert (answer.response, answer.model) == ("bright", "bright")
        assert (answer.done, answer.done_reason, answer.eval_count) == (True, "stop", 1)
        assert (answer.prompt_eval_count, answer.prompt_eval_duration, answer.load_duration) == (0, 0, 0)
        assert answer.total_duration is not None and answer.eval_duration is not None
        assert answer.total_duration >= answer.eval_duration > 0
        assert answer.created_at is not None and answer.created_at.endswith("Z")
        assert datetime.fromisoformat(answer.created_at).year >= 2026

    asked(scenario)


def test_generate_streams_the_caption_and_then_the_numbers() -> None:
    async def scenario(client: AsyncClient) -> None:
        parts = [part async for part in await client.generate("x", images=[WHITE, BLACK], stream=True)]
        assert [(part.response, part.done) for part in parts] == [("bright\ndark", False), ("", True)]
        assert [part.eval_count for part in parts] == [None, 2]

    asked(scenario)


def test_chat_answers_and_streams() -> None:
    async def scenario(client: AsyncClient) -> None:
        messages = [{"role": "system", "content": "Be brief."}, user(WHITE)]
        answer = await client.chat("x", messages)
        assert (answer.message.role, answer.message.content) == ("assistant", "bright")
        assert (answer.model, answer.done_reason) == ("bright", "stop")
        parts = [part async for part in await client.chat("x", messages, stream=True)]
        assert [(part.message.content, part.done) for part in parts] == [("bright", False), ("", True)]
        # A question about the same photograph, then another photograph.
        messages += [{"role": "assistant", "content": "bright"}, user(content="Really?")]
        assert (await client.chat("x", messages)).message.content == "bright"
        assert (await client.chat("x", [*messages, user(BLACK), user(WHITE)])).message.content == "dark\nbright"

    asked(scenario)


def test_a_stream_is_the_default_as_it_is_with_ollama() -> None:
    async def scenario(app: ASGIApp) -> None:
        body = {"images": [base64_of(WHITE)]}
        answer = await ask(app, "POST", "/api/generate", [json.dumps(body).encode()])
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line)["done"] for line in answer.content.splitlines()] == [False, True]
        for stream, media_type in ((None, "application/x-ndjson"), (False, "application/json")):
            answer = await ask(app, "POST", "/api/generate", [json.dumps(body | {"stream": stream}).encode()])
            assert answer.headers["content-type"] == media_type

    run(scenario)


def test_programs_that_load_a_model_first_are_told_that_it_is() -> None:
    async def scenario(client: AsyncClient) -> None:
        generated, chatted = await client.generate("x", keep_alive="5m"), await client.chat("x")
        assert (generated.done_reason, generated.response) == ("load", "")
        assert (chatted.done_reason, chatted.message.content) == ("load", "")
        parts = [part async for part in await client.generate("x", stream=True)]
        assert [(part.done, part.done_reason) for part in parts] == [(True, "load")]

    asked(scenario)


def test_the_one_model_is_listed_shown_and_loaded() -> None:
    async def scenario(client: AsyncClient) -> None:
        for models in ((await client.list()).models, (await client.ps()).models):
            assert [model.model for model in models] == ["bright"]
        shown = await client.show("gemma3:4b")
        assert shown.capabilities == ["completion", "vision"]
        assert shown.modelinfo is not None and shown.modelinfo["general.name"] == "bright"

    asked(scenario)


def test_the_version_and_whether_there_is_a_service() -> None:
    async def scenario(app: ASGIApp) -> None:
        assert (await ask(app, "GET", "/api/version")).json == {"version": __version__}
        assert (await ask(app, "HEAD", "/")).status == 200  # Ollama's command asks so

    run(scenario)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (lambda client: client.generate("x", "What is there?"), "it holds no image"),
        (lambda client: client.chat("x", [user()]), "it holds no image"),
        (lambda client: client.generate("x", images=[WHITE[:60]]), "image 1: "),
        (lambda client: client.chat("x", [user(WHITE, b"text")]), "image 2: not a photograph"),
        (lambda client: client.generate("x", images=[WHITE], format="json"), "format: the captioner answers with"),
        (lambda client: client.chat("x", [user(WHITE)], format={"type": "object"}), "not with JSON"),
    ],
)
def test_what_cannot_be_answered_is_an_error_that_ollamas_client_reads(request_: Any, told: str) -> None:
    async def scenario(client: AsyncClient) -> None:
        with pytest.raises(ResponseError) as caught:
            await request_(client)
        assert caught.value.status_code == 400 and told in caught.value.error

    asked(scenario)


def test_what_ollama_can_do_and_a_captioner_cannot_is_not_there() -> None:
    async def scenario(client: AsyncClient) -> None:
        for asking in (client.pull("llava"), client.embed("x", "text"), client.delete("x")):
            with pytest.raises(ResponseError) as caught:
                await asking
            assert caught.value.status_code == 404 and caught.value.error.startswith("There is nothing here")

    asked(scenario)


# Over a connection.


@pytest.fixture(scope="module")
def small_server(small_model: Path) -> Iterator[RunningServer]:
    with start_server("--model", small_model, "--threads", "1", env={"CAPTIONLENS_TOKEN": TOKEN}) as running:
        yield running


@pytest.fixture(scope="module")
def small_captioner(small_model: Path) -> Captioner:
    return load(small_model, threads=1)


def client_of(server: RunningServer, token: str = TOKEN) -> Client:
    return Client(server.url, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.slow
def test_the_captions_are_those_that_python_gives(small_server: RunningServer, small_captioner: Captioner) -> None:
    cat, man = (small_captioner.caption(path) for path in (CAT, MAN))
    with client_of(small_server) as client:
        answer = client.generate("x", images=[CAT])
        assert (answer.response, answer.model) == (cat.text, "captionlens-small")
        assert answer.eval_count == len(cat.words)
        answer = client.generate("x", images=[CAT, Path(MAN).read_bytes()])
        assert answer.response == f"{cat.text}\n{man.text}"
        parts = list(client.chat("x", [user(Path(MAN).read_bytes())], stream=True))
        assert "".join(part.message.content or "" for part in parts) == man.text and parts[-1].done


@pytest.mark.slow
def test_a_caption_has_as_many_words_as_are_wanted(small_server: RunningServer, small_captioner: Captioner) -> None:
    whole = small_captioner.caption(CAT)
    short = small_captioner.caption(CAT, small_captioner.request(max_words=2))
    assert len(whole.words) > 2 == len(short.words)
    with client_of(small_server) as client:
        cut = client.generate("x", images=[CAT], options={"num_predict": 2})
        assert (cut.response, cut.done_reason, cut.eval_count) == (short.text, "length", 2)
        for unlimited in (-1, -2, 0, 1000):
            assert client.generate("x", images=[CAT], options={"num_predict": unlimited}).response == whole.text


@pytest.mark.slow
def test_the_model_is_told_apart_by_its_files(small_server: RunningServer, small_model: Path) -> None:
    with client_of(small_server) as client:
        (model,) = client.list().models
    manifest = small_model / "manifest.json"
    assert model.model == "captionlens-small"
    assert model.digest == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert model.size == sum(path.stat().st_size for path in small_model.rglob("*") if path.is_file())
    assert model.modified_at is not None
    assert model.modified_at.timestamp() == pytest.approx(manifest.stat().st_mtime, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("token", ["wrong", ""])
def test_without_the_right_token_nothing_is_answered(small_server: RunningServer, token: str) -> None:
    client = client_of(small_server, token) if token else Client(small_server.url)
    with client:
        for asking in (client.list, client.ps, lambda: client.show("x"), lambda: client.generate("x", images=[CAT])):
            with pytest.raises(ResponseError) as caught:
                asking()
            assert caught.value.status_code == 401 and "Authorization: Bearer" in caught.value.error


@pytest.mark.slow
def test_the_environment_is_all_that_a_program_needs(
    small_server: RunningServer, small_captioner: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", small_server.url.rstrip("/"))
    monkeypatch.setenv("OLLAMA_API_KEY", TOKEN)
    with Client() as client:
        assert client.generate("x", images=[CAT]).response == small_captioner.caption(CAT).text


@pytest.mark.slow
def test_a_caption_that_the_captioner_is_unsure_of_says_so(tmp_path: Path) -> None:
    model = Path(shutil.copytree(PACKAGED_MODEL, tmp_path / "model"))
    confidence = json.loads((model / "confidence.json").read_text())
    (model / "confidence.json").write_text(json.dumps(confidence | {"unsure_below": 1.0}))  # of everything
    write_manifest(model)
    caption = load(model, threads=1).caption(CAT)
    with start_server("--model", model, "--threads", "1") as server, Client(server.url) as client:
        answer = client.generate("x", images=[CAT])
    assert caption.unsure and answer.response == f"not sure: {caption.text}"
    assert answer.eval_count == len(caption.words)
