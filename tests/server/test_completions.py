"""What the routes of Ollama's and OpenAI's APIs have in common, by plain ASGI: photographs, limits, queue, errors."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
from starlette.types import ASGIApp

from captionlens.server.completions import POINT, images_of_last_turn
from helpers.asgi import ask
from helpers.bright_network import BLACK, WHITE, BrightNetwork, grey
from helpers.server import Answer
from helpers.service import base64_of, data_url, metric, run

GENERATE, CHAT, COMPLETIONS = ROUTES = ("/api/generate", "/api/chat", "/v1/chat/completions")
GREY = grey(140)  # 'bright' at 55 %


def body_of(route: str, *images: str, **more: Any) -> bytes:
    """A request for the captions of images."""
    content: dict[str, Any]
    if route == GENERATE:
        content = {"images": images, "prompt": "?", "stream": False}
    elif route == CHAT:
        content = {"messages": [{"role": "user", "content": "?", "images": images}], "stream": False}
    else:
        parts = [{"type": "image_url", "image_url": {"url": image}} for image in images]
        content = {"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, *parts]}]}
    return json.dumps({"model": "any", **content, **more}).encode()


def text_of(answer: Answer) -> Any:
    """What the captioner says in an answer of any of the three."""
    told = answer.json
    if "choices" in told:
        return told["choices"][0]["message"]["content"]
    return told["response"] if "response" in told else told["message"]["content"]


def error_of(answer: Answer) -> str:
    """The message of an error of any of the three."""
    assert answer.headers["content-type"] == "application/json"
    told = answer.json["error"]
    message = told["message"] if isinstance(told, dict) else told
    assert isinstance(message, str)
    return message


# Photographs.


@pytest.mark.parametrize("route", ROUTES)
def test_photographs_in_every_form_of_base64(route: str) -> None:
    whole = base64_of(WHITE)
    in_lines = "\r\n".join(whole[at : at + 76] for at in range(0, len(whole), 76)) + "\n"

    async def scenario(app: ASGIApp) -> None:
        for image in (whole, in_lines, data_url(WHITE), f"DATA:;charset=x;BASE64,{in_lines}"):
            answer = await ask(app, "POST", route, [body_of(route, image)])
            assert answer.status == 200 and text_of(answer) == "bright"
        large = BLACK + bytes(range(256)) * 3000  # what follows the picture in its file is not read
        assert text_of(await ask(app, "POST", route, [body_of(route, base64_of(large))])) == "dark"
        answer = await ask(app, "POST", route, [body_of(route, POINT)])  # the example of the document
        assert text_of(answer) in ("bright", "dark")

    run(scenario)


@pytest.mark.parametrize("route", ROUTES)
def test_several_photographs_get_a_caption_a_line(route: str) -> None:
    async def scenario(app: ASGIApp) -> None:
        answer = await ask(app, "POST", route, [body_of(route, *map(data_url, (WHITE, BLACK, BLACK, WHITE)))])
        assert text_of(answer) == "bright\ndark\ndark\nbright"

    run(scenario)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("https://example.org/cat.jpg", "image 2 is an address, and this service fetches none"),
        ("HTTP://127.0.0.1/", "image 2 is an address, and this service fetches none"),
        ("file:///etc/passwd", "image 2 is an address, and this service fetches none"),
        ("data:image/svg+xml,%3Csvg/%3E", "image 2 must be base64"),
        ("data:", "image 2 must be base64"),
        ("no base64!", "image 2 is not base64"),
        ("Y", "image 2 is not base64"),
        (base64_of(bytes(300_000)) + "!", "image 2 is not base64"),
        ("猫", "image 2 is not base64"),
        ("", "image 2: is empty"),
        (base64_of(b"text"), "image 2: not a photograph"),
        (base64_of(WHITE[:60]), "image 2: "),
        (base64_of(grey(1, 200)), "image 2: 200x200 is more than 10000 pixels"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(image: str, told: str) -> None:
    async def scenario(app: ASGIApp) -> None:
        for route in ROUTES:
            answer = await ask(app, "POST", route, [body_of(route, base64_of(WHITE), image)])
            assert answer.status == 400
            assert told in error_of(answer) and error_of(answer).startswith("The photograph cannot be read: ")

    run(scenario, pixels=10_000)


@pytest.mark.parametrize("route", ROUTES)
def test_without_an_image_there_is_nothing_to_say(route: str) -> None:
    async def scenario(app: ASGIApp) -> None:
        answer = await ask(app, "POST", route, [body_of(route)])
        assert answer.status == 400 and "it holds no image" in error_of(answer)

    run(scenario)


@pytest.mark.parametrize(
    ("turns", "wanted"),
    [
        ([], ""),
        (["s:", "u:"], ""),
        (["s:", "u:ab"], "ab"),
        (["u:a", "u:b", "u:"], "ab"),  # every image in a message of its own, then the prompt
        (["u:ab", "a:", "u:c"], "c"),
        (["u:ab", "u:c", "a:", "u:"], "abc"),  # asked again about the same
        (["u:a", "a:", "u:", "a:", "u:"], "a"),
        (["u:a", "a:b", "u:"], "a"),
        (["a:", "a:"], ""),
    ],
)
def test_the_images_that_a_chat_asks_about(turns: Sequence[str], wanted: str) -> None:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    messages = [(roles[turn[0]], list(turn[2:])) for turn in turns]
    assert images_of_last_turn(messages) == list(wanted)


# Bodies and options.


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff", "Invalid JSON"),
        (b"[" * 5000, "Invalid JSON"),
        (b"null", "object"),
        (b"[]", "object"),
        (b'{"stream": "perhaps", "messages": [], "images": []}', "stream: "),
        (b'{"messages": [{"role": 5}], "images": 5}', ": Input should be a valid "),
        (b'{"messages": 5, "images": [5]}', ": Input should be a valid "),
    ],
)
def test_what_is_no_request_is_told(body: bytes, told: str) -> None:
    async def scenario(app: ASGIApp) -> None:
        for route in ROUTES:
            answer = await ask(app, "POST", route, [body])
            assert answer.status == 400 and told in error_of(answer)
            assert "pydantic" not in error_of(answer)

    run(scenario)


@pytest.mark.parametrize("route", ROUTES)
def test_the_content_type_does_not_matter(route: str) -> None:
    async def scenario(app: ASGIApp) -> None:
        body = body_of(route, data_url(BLACK))
        for media_type in ("", "application/x-www-form-urlencoded", "text/plain", "application/json"):
            answer = await ask(app, "POST", route, [body[:50], body[50:]], {"Content-Type": media_type})
            assert text_of(answer) == "dark"

    run(scenario)


@pytest.mark.parametrize("route", ROUTES)
def test_what_has_no_meaning_here_does_no_harm(route: str) -> None:
    """Temperature and seed are for language models: captions are searched for, not drawn."""

    async def scenario(app: ASGIApp) -> None:
        for seed in range(8):
            odd = {"temperature": 5, "seed": seed, "top_p": 0.1, "num_ctx": 8192, "stop": ["\n"]}
            more = {**odd, "options": odd, "tools": [{"type": "function"}], "keep_alive": "5m", "new": {"a": [None]}}
            answer = await ask(app, "POST", route, [body_of(route, data_url(GREY), **more)])
            assert answer.status == 200 and text_of(answer) == "bright"

    run(scenario)


# Limits, the queue, the metrics.


@pytest.mark.parametrize("route", ROUTES)
def test_uploads_have_limits(route: str) -> None:
    async def scenario(app: ASGIApp) -> None:
        large = base64_of(b"x" * 2001)
        answer = await ask(app, "POST", route, [body_of(route, base64_of(WHITE), large)])
        assert answer.status == 413 and "image 2 has more than 2000 bytes" in error_of(answer)
        answer = await ask(app, "POST", route, [body_of(route, *[base64_of(WHITE)] * 4)])
        assert answer.status == 413 and "more than 3 photographs" in error_of(answer)
        answer = await ask(app, "POST", route, [body_of(route, base64_of(WHITE))])
        assert answer.status == 200  # a body may be larger than a photograph
        answer = await ask(app, "POST", route, [body_of(route, base64_of(b"x" * 7000))])
        assert answer.status == 413 and "more than 6000 bytes" in error_of(answer)
        assert await metric(app, "captionlens_queue_places") == 0

    run(scenario, upload_bytes=2000, batch_upload_bytes=6000, queue=3)


@pytest.mark.parametrize("value", [b"{},", b"[],", b"1,", b"[[],"])
def test_small_json_does_not_become_large_memory(value: bytes) -> None:
    async def scenario(app: ASGIApp) -> None:
        answer = await ask(app, "POST", CHAT, [b'{"x": [' + value * 100_000 + b"0]}"])
        assert answer.status == 413 and "values" in error_of(answer)

    run(scenario)


def test_they_wait_in_the_same_queue_and_share_batches() -> None:
    network = BrightNetwork()
    network.gate.clear()

    async def scenario(app: ASGIApp) -> None:
        image = base64_of(WHITE)
        first = asyncio.create_task(ask(app, "POST", "/v1/caption", [WHITE], {"Content-Type": "image/png"}))
        await asyncio.to_thread(network.entered.wait)
        others = [asyncio.create_task(ask(app, "POST", route, [body_of(route, image)])) for route in ROUTES]
        while await metric(app, 'captionlens_part_seconds_count{part="decode"}') < 4:
            await asyncio.sleep(0)
        assert await metric(app, "captionlens_queue_places") == 4
        for route in ROUTES:
            refused = await ask(app, "POST", route, [body_of(route, image)])
            assert refused.status == 503 and "places are taken" in error_of(refused)
            assert int(refused.headers["retry-after"]) >= 1
        network.gate.set()
        assert (await first).json["caption"] == "bright"
        assert [text_of(answer) for answer in await asyncio.gather(*others)] == ["bright"] * 3
        assert await metric(app, "captionlens_queue_places") == 0
        assert await metric(app, 'captionlens_rejected_total{problem="queue-full"}') == 3
        for route in ROUTES:
            assert await metric(app, f'captionlens_requests_total{{route="{route}",status="200"}}') == 1

    run(scenario, network, queue=4)
    assert network.encoded == [1, 3]


def test_slow_uploads_and_long_waits_are_given_up() -> None:
    network = BrightNetwork()
    network.gate.clear()

    async def scenario(app: ASGIApp) -> None:
        body = body_of(CHAT, base64_of(WHITE))
        slow = await ask(app, "POST", CHAT, [body[:20]], stalls=True)
        assert slow.status == 408 and "upload took too long" in error_of(slow)
        for route in ROUTES:
            late = await ask(app, "POST", route, [body_of(route, base64_of(WHITE))])
            assert late.status == 503 and "waited too long" in error_of(late)
        assert await metric(app, "captionlens_queue_places") == 0

    run(scenario, network, timeout=0.2)


@pytest.mark.parametrize("route", ROUTES)
def test_a_client_that_leaves_gives_up_its_places(route: str) -> None:
    network = BrightNetwork()
    network.gate.clear()

    async def scenario(app: ASGIApp) -> None:
        gone = asyncio.Event()
        body = body_of(route, base64_of(WHITE), base64_of(BLACK))
        leaving = asyncio.create_task(ask(app, "POST", route, [body], gone=gone))
        await asyncio.to_thread(network.entered.wait)
        assert await metric(app, "captionlens_queue_places") == 2
        gone.set()
        assert (await leaving).status == 499
        assert await metric(app, "captionlens_queue_places") == 0

    run(scenario, network)


def test_a_client_that_asks_too_often_is_told_when_to_come_again() -> None:
    async def scenario(app: ASGIApp) -> None:
        answers = [await ask(app, "POST", route, [body_of(route, base64_of(WHITE))]) for route in ROUTES]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[-1].json["error"]["type"] == "rate_limit_error"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 30  # seconds until one of two a minute is free
        assert (await ask(app, "GET", "/api/tags")).status == 200

    run(scenario, rate=2)
