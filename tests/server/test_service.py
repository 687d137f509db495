"""The whole application by plain ASGI, with a small network: forms, options, errors, deadlines, clients that leave."""

import asyncio
import logging
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
from starlette.types import ASGIApp

from captionlens.errors import ModelError, RegionError
from helpers.asgi import ask
from helpers.bright_network import BLACK, WHITE, BrightNetwork
from helpers.server import BOUNDARY, Answer, form
from helpers.service import metric, run, running

PNG = {"Content-Type": "image/png"}
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
ROUTES = ("/v1/caption", "/v1/caption/figure", "/v1/caption/batch")


def fields(**given: str) -> bytes:
    """Fields of a form, for before its files."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in given.items()
    ]
    return "".join(parts).encode()


# Photographs and their forms.


def test_a_photograph_as_it_is_and_in_a_form() -> None:
    async def scenario(app: ASGIApp) -> None:
        plain = await ask(app, "POST", "/v1/caption?attention=true", [WHITE[:40], WHITE[40:]], PNG)
        assert plain.status == 200 and plain.json["caption"] == "bright" and plain.json["path"] == "-"
        assert len(plain.json["words"][0]["attention"]) == 5
        body, headers = form(("white.png", WHITE))
        answer = await ask(app, "POST", "/v1/caption?attention=true", [body], headers)
        assert answer.json == plain.json | {"path": "white.png"}
        body, headers = form(("a.png", WHITE), ("b.png", b"?"), ("c.png", BLACK))
        several = await ask(app, "POST", "/v1/caption/batch", [body], headers)
        assert [one.get("caption") for one in several.json["captions"]] == ["bright", None, "dark"]
        assert several.json["captions"][1]["error"]["type"] == "unreadable-image"
        figure = await ask(app, "POST", "/v1/caption/figure", [WHITE], PNG)
        assert figure.headers["content-type"] == "image/png" and figure.content.startswith(b"\x89PNG")

    run(scenario)


def test_a_field_of_a_form_is_refused_and_named() -> None:
    async def scenario(app: ASGIApp) -> None:
        files, _ = form(("white.png", WHITE))
        for route in ROUTES:
            for name in ("beam", "bema", "temperature", ""):
                for body in (fields(**{name: "99"}) + files, fields(**{name: "1"}) + form()[0]):
                    answer = await ask(app, "POST", f"{route}?beam=2", [body], FORM)
                    assert answer.status == 422 and answer.problem == "bad-option"
                    told = {"parameter": name, "message": "is a field of the form; parameters go into the query"}
                    assert answer.json["errors"] == [told]
                    assert answer.json["detail"] == f"{name}: {told['message']}"
            body = fields(beam="2", seed="3") + files
            answer = await ask(app, "POST", route, [body], FORM)
            assert [error["parameter"] for error in answer.json["errors"]] == ["beam", "seed"]
            assert (await ask(app, "POST", route, [files], FORM)).status == 200

    network = BrightNetwork()
    run(scenario, network)
    assert network.encoded == [1] * len(ROUTES)


def test_names_of_fields_are_cleaned_and_cut() -> None:
    async def scenario(app: ASGIApp) -> None:
        nasty = "ü\x07" + "x" * 300
        answer = await ask(app, "POST", "/v1/caption", [fields(**{nasty: "1"}) + form()[0]], FORM)
        assert answer.json["errors"][0]["parameter"] == "ü " + "x" * 98

    run(scenario)


@pytest.mark.parametrize("route", ROUTES)
def test_files_under_another_name_are_refused(route: str) -> None:
    photograph, _ = form(("a.png", WHITE))
    other, _ = form(("b.png", BLACK), field="photo")
    together = photograph.removesuffix(f"--{BOUNDARY}--\r\n".encode()) + other
    without_name = fields(file="text") + photograph

    async def scenario(app: ASGIApp) -> None:
        for body, told in ((other, "photo"), (together, "photo"), (without_name, "no file name")):
            answer = await ask(app, "POST", route, [body], FORM)
            assert answer.status == 400 and answer.problem == "malformed-request" and told in answer.json["detail"]

    run(scenario)


# Options and errors.


def test_options_that_do_not_suit_the_model_are_named() -> None:
    network = BrightNetwork()

    async def scenario(app: ASGIApp) -> None:
        for query, told in (
            ("prefix=zyzzyva", "prefix: the model does not know the word 'zyzzyva'"),
            ("prefix=bright%20dark&max_words=1", "prefix has 2 words, more than max_words allows (1)"),
        ):
            for route in ROUTES[:2]:
                answer = await ask(app, "POST", f"{route}?{query}", [WHITE], PNG)
                assert answer.status == 422 and answer.problem == "bad-option" and answer.json["detail"] == told
        network.failure = RegionError("somewhere/model", "its graphs know no regions")
        answer = await ask(app, "POST", "/v1/caption?region=0,0,.5,.5", [WHITE], PNG)
        assert answer.status == 422 and answer.problem == "bad-option"
        assert answer.json["detail"] == "region: its graphs know no regions"

    run(scenario, network)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("query", ["", "?beam=1"])
@pytest.mark.parametrize("failure", [ModelError("somewhere/model", "is damaged"), RuntimeError("somewhere")])
def test_other_errors_of_the_model_are_no_fault_of_the_request(
    route: str, query: str, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    network = BrightNetwork()
    body, headers = form(("a.png", WHITE), *([("b.png", BLACK)] if route.endswith("batch") else []))

    async def scenario(app: ASGIApp) -> None:
        network.failure = failure
        answer = await ask(app, "POST", route + query, [body], headers | {"X-Request-ID": "request-7"})
        assert answer.status == 500 and answer.problem == "internal-error"
        assert "somewhere" not in answer.content.decode() and "region" not in answer.content.decode()
        assert answer.headers["x-request-id"] == "request-7"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert await metric(app, f'captionlens_requests_total{{route="{route}",status="500"}}') == 1
        assert await metric(app, "captionlens_queue_places") == 0
        network.failure = None
        assert (await ask(app, "POST", route, [body], headers)).status == 200

    caplog.set_level(logging.INFO, "captionlens.server")
    run(scenario, network)
    logged = next(record for record in caplog.records if record.getMessage() == "request request-7 failed")
    assert logged.exc_info is not None and logged.exc_info[1] is failure
    line = next(record for record in caplog.records if getattr(record, "fields", {}).get("id") == "request-7")
    assert line.fields["status"] == 500  # type: ignore[attr-defined]


def test_a_response_that_breaks_off_is_not_answered_twice() -> None:
    from captionlens.server.metrics import Metrics
    from captionlens.server.watch import Watch

    sent: list[Any] = []

    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("midway")

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    watch = Watch(breaks_off, Metrics(), frozenset())
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(RuntimeError, match="midway"):
        asyncio.run(watch(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start"]


# Time and clients that leave.


def test_an_upload_that_stalls_is_given_up() -> None:
    async def scenario(app: ASGIApp) -> None:
        answer = await ask(app, "POST", "/v1/caption", [WHITE[:40]], PNG, stalls=True)
        assert answer.status == 408 and answer.problem == "upload-too-slow"
        assert (await ask(app, "GET", "/readyz")).status == 200

    run(scenario, timeout=0.1)


def test_a_request_that_waits_too_long_is_given_up() -> None:
    network = BrightNetwork()
    network.gate.clear()

    async def scenario(app: ASGIApp) -> None:
        answer = await ask(app, "POST", "/v1/caption", [WHITE], PNG)
        assert answer.status == 503 and answer.problem == "too-late"
        assert await metric(app, "captionlens_queue_places") == 0

    run(scenario, network, timeout=0.1)


def test_a_client_that_leaves_gives_up_its_places() -> None:
    network = BrightNetwork()
    network.gate.clear()
    body, headers = form(("a.png", WHITE), ("b.png", BLACK))

    async def scenario(app: ASGIApp) -> None:
        gone = asyncio.Event()
        leaving = asyncio.create_task(ask(app, "POST", "/v1/caption/batch", [body], headers, gone=gone))
        await asyncio.to_thread(network.entered.wait)
        assert await metric(app, "captionlens_queue_places") == 2
        gone.set()
        assert (await leaving).status == 499
        assert await metric(app, "captionlens_queue_places") == 0
        assert await metric(app, 'captionlens_requests_total{route="/v1/caption/batch",status="499"}') == 1

    run(scenario, network)


def test_a_full_queue_and_one_that_stops() -> None:
    network = BrightNetwork()
    network.gate.clear()

    async def scenario(app: ASGIApp) -> None:
        first = asyncio.create_task(ask(app, "POST", "/v1/caption", [WHITE], PNG))
        await asyncio.to_thread(network.entered.wait)
        unread = [WHITE]
        refused = await ask(app, "POST", "/v1/caption", unread, PNG)
        assert refused.status == 503 and refused.problem == "queue-full"
        network.gate.set()
        assert (await first).status == 200

    run(scenario, network, queue=1)

    async def stopped() -> list[Answer]:
        async with running(BrightNetwork()) as app:
            pass
        asked = [("GET", "/readyz", None), ("POST", "/v1/caption", [WHITE]), ("GET", "/healthz", None)]
        return [await ask(app, method, path, body, PNG) for method, path, body in asked]

    not_ready, refused, alive = asyncio.run(stopped())
    assert (not_ready.problem, refused.problem, alive.status) == ("stopping", "stopping", 200)


def test_the_document_knows_no_other_part_of_a_form() -> None:
    async def scenario(app: ASGIApp) -> None:
        document = (await ask(app, "GET", "/openapi.json")).json
        for route in ROUTES:
            content = document["paths"][route]["post"]["requestBody"]["content"]
            schema = content["multipart/form-data"]["schema"]
            assert set(schema["properties"]) == {"file"} and schema["additionalProperties"] is False

    run(scenario)
