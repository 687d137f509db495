"""The HTTP service, as other programs use it: a real one, over a real connection."""

import io
import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import captionlens
from captionlens._version import __version__
from captionlens.geometry.region import Region
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.request import CaptionRequest
from helpers.paths import REPOSITORY

pytest.importorskip("fastapi", reason="needs the extra serve")
from helpers.server import RunningServer, form, start_server
from helpers.waiting import eventually

pytestmark = pytest.mark.slow

PHOTOGRAPHS = sorted((REPOSITORY / "examples" / "photographs").glob("*.jpg"))
CAT = next(path for path in PHOTOGRAPHS if path.stem == "cat").read_bytes()
NASTY = "<img src=x onerror=alert(1)>;\t..\\..\\etc/passwd ünïcode 猫.jpg"
NO_TEXT = "\udcff\udcfe.jpg"  # bytes that are no UTF-8


def same(answer: Any, caption: captionlens.Caption) -> None:
    """The answer tells of the caption, up to rounding."""
    wanted = caption.to_dict(attention=True)
    assert answer["caption"] == wanted["caption"]
    assert answer["log_prob"] == pytest.approx(wanted["log_prob"], abs=1e-3)
    assert answer.get("confidence") == pytest.approx(wanted.get("confidence"), abs=1e-3)
    for word, other in zip(answer["words"], wanted["words"], strict=True):
        assert word["text"] == other["text"]
        assert word["probability"] == pytest.approx(other["probability"], abs=1e-3)
        if "attention" in word:
            np.testing.assert_allclose(word["attention"], other["attention"], atol=1e-3)


def test_a_photograph_gets_the_caption_that_python_gives(server: RunningServer, captioner: Captioner) -> None:
    for path in PHOTOGRAPHS:
        answer = server.caption(path.read_bytes(), "?attention=true")
        assert answer.status == 200
        same(answer.json, captioner.caption(path))
        assert answer.json["path"] == "-"
        assert "attention" in answer.json["words"][0]


def test_maps_come_only_where_asked_for(server: RunningServer) -> None:
    words = server.caption(CAT).json["words"]
    assert set(words[0]) == {"text", "probability", "confidence"}


@pytest.mark.parametrize(
    ("query", "changes", "guidance"),
    [
        ("?beam=1", {"beam": 1}, {}),
        ("?beam=2&max_words=4", {"beam": 2, "max_words": 4}, {}),
        ("?temperature=1.5&seed=9", {"temperature": 1.5, "seed": 9}, {}),
        ("?temperature=2&seed=9&top_k=5&top_p=0.9", {"temperature": 2, "seed": 9, "top_k": 5, "top_p": 0.9}, {}),
        ("?prefix=two%20dogs", {}, {"prefix": "two dogs"}),
        ("?region=0.5,0,1,0.5", {}, {"region": Region(0.5, 0, 1, 0.5)}),
        ("?region=0,0,1.0,.5&prefix=a", {}, {"region": Region(0, 0, 1, 0.5), "prefix": "a"}),
    ],
)
def test_parameters_do_what_they_do_in_python(
    server: RunningServer, captioner: Captioner, query: str, changes: dict[str, Any], guidance: dict[str, Any]
) -> None:
    options = replace(captioner.options, **changes)
    answer = server.caption(CAT, query + "&attention=true&alternatives=3")
    caption = captioner.caption(CAT, CaptionRequest(options, alternatives=3, **guidance))
    same(answer.json, caption)
    for word, other in zip(answer.json["words"], caption.words, strict=True):
        assert [a["text"] for a in word["alternatives"]] == [a.text for a in other.alternatives]


def test_words_are_held_against_the_picture_where_asked_for(server: RunningServer, captioner: Captioner) -> None:
    answer = server.caption(CAT, "?faithfulness=true&region=0,0,0.5,1").json
    region = Region(0, 0, 0.5, 1)
    examined = captioner.caption(CAT, captioner.request(region=region, faithfulness=True))
    for word, other in zip(answer["words"], examined.words, strict=True):
        assert other.faithfulness is not None
        assert word["faithfulness"]["blanked"] == pytest.approx(other.faithfulness.blanked, abs=1e-3)
        assert word["depends_on_picture"] == other.faithfulness.depends_on_picture


def test_a_form_tells_the_name_of_the_file(server: RunningServer) -> None:
    body, headers = form(("holiday/cat at home.jpg", CAT))
    answer = server.ask("POST", "/v1/caption", body, headers)
    assert answer.json["path"] == "cat at home.jpg"
    assert answer.json["caption"] == server.caption(CAT).json["caption"]


def test_a_nasty_name_harms_nobody(server: RunningServer) -> None:
    body, headers = form((NASTY, CAT), (NASTY, b"no photograph"), (NO_TEXT, CAT))
    answer = server.ask("POST", "/v1/caption/batch", body, headers)
    assert answer.status == 200
    good, bad, other = answer.json["captions"]
    assert good["path"] == bad["path"] == "passwd ünïcode 猫.jpg"
    assert other["path"].endswith(".jpg") and other["caption"] == good["caption"]
    assert (
        answer.headers["content-type"] == "application/json" and answer.headers["x-content-type-options"] == "nosniff"
    )


def test_several_photographs_come_back_in_order(server: RunningServer, captioner: Captioner) -> None:
    files = [(path.name, path.read_bytes()) for path in PHOTOGRAPHS]
    files.insert(2, ("broken.jpg", CAT[:5000]))
    body, headers = form(*files)
    answer = server.ask("POST", "/v1/caption/batch?attention=true", body, headers)
    assert answer.status == 200
    captions = answer.json["captions"]
    assert [caption["path"] for caption in captions] == [name for name, _ in files]
    broken = captions.pop(2)
    assert broken["error"]["type"] == "unreadable-image" and "truncated" in broken["error"]["message"]
    for caption, path in zip(captions, PHOTOGRAPHS, strict=True):
        same(caption, captioner.caption(path))


def test_the_figure_is_the_one_python_draws(server: RunningServer, captioner: Captioner) -> None:
    answer = server.ask("POST", "/v1/caption/figure?prefix=a%20cat", CAT, Content_Type="image/jpeg")
    assert answer.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(answer.content)) as figure:
        drawn = captioner.caption(CAT, captioner.request(prefix="a cat")).figure()
        assert figure.size == drawn.size
        assert np.abs(np.asarray(figure, int) - np.asarray(drawn, int)).max() <= 8


def test_the_model_is_told(server: RunningServer, captioner: Captioner) -> None:
    told = server.ask("GET", "/v1/model").json
    assert told["name"] == captioner.name and told["version"] == __version__
    assert (told["grid"]["rows"], told["grid"]["columns"]) == captioner.grid
    assert told["limits"]["upload_bytes"] == 20 * 2**20 and told["calibrated"] is True
    assert told["decoding"]["beam"] == captioner.options.beam


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("?beam=0", "beam"),
        ("?beam=11", "beam"),
        ("?beam=wide", "beam"),
        ("?bema=3", "bema"),
        ("?temperature=0", "temperature"),
        ("?temperature=nan", "temperature"),
        ("?temperature=inf", "temperature"),
        ("?max_words=0", "max_words"),
        ("?region=0,0,1", "region"),
        ("?region=0.6,0,0.5,1", "region"),
        ("?region=0,0,0,0", "region"),
        ("?alternatives=11", "alternatives"),
        ("?seed=-1", "seed"),
    ],
)
def test_a_bad_parameter_is_named(server: RunningServer, query: str, parameter: str) -> None:
    answer = server.caption(CAT, query)
    assert answer.status == 422 and answer.problem == "bad-option"
    assert [error["parameter"] for error in answer.json["errors"]] == [parameter]
    assert parameter in answer.json["detail"]


def test_a_prefix_that_cannot_be_said_is_named(server: RunningServer) -> None:
    for query, told in (("?prefix=zyzzyva", "zyzzyva"), ("?prefix=a%20cat%20is&max_words=2", "max_words")):
        answer = server.caption(CAT, query)
        assert answer.status == 422 and answer.problem == "bad-option" and told in answer.json["detail"]


def picture(size: tuple[int, int], format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("1", size).save(file, format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"GIF89a", ""),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photograph"),
        (CAT[:7000], "truncated"),
        (picture((10_000, 6000)), "10000x6000 is more than 50000000 pixels"),
    ],
    ids=["nothing", "head only", "svg", "truncated", "too many pixels"],
)
def test_what_cannot_be_read_is_told(server: RunningServer, content: bytes, told: str) -> None:
    answer = server.caption(content)
    assert answer.status == 422 and answer.problem == "unreadable-image"
    assert told in answer.json["detail"]
    assert not re.search(r"/|\.py|BytesIO|Traceback", answer.json["detail"])


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/html", "application/json", ""])
def test_other_content_is_not_taken(server: RunningServer, media_type: str) -> None:
    answer = server.caption(CAT, Content_Type=media_type)
    assert answer.status == 415 and answer.problem == "unsupported-media-type"
    assert server.ask("POST", "/v1/caption/batch", CAT, Content_Type="image/jpeg").status == 415


def test_a_form_that_is_none(server: RunningServer) -> None:
    one, headers = form(("a.jpg", CAT))
    two, _ = form(("a.jpg", CAT), ("b.jpg", CAT))
    other, _ = form(("a.jpg", CAT), field="photo")
    for path, body, given in (
        ("/v1/caption", one, {"Content-Type": "multipart/form-data"}),
        ("/v1/caption", b"no form at all", headers),
        ("/v1/caption", b"", headers),
        ("/v1/caption", other, headers),
        ("/v1/caption/batch", other, headers),
    ):
        answer = server.ask("POST", path, body, given)
        assert answer.status == 400 and answer.problem == "malformed-request"
    assert server.ask("POST", "/v1/caption", two, headers).problem in ("malformed-request", "upload-too-large")


def test_what_is_not_there(server: RunningServer) -> None:
    assert server.ask("GET", "/v2/caption").problem == "not-found"
    assert server.ask("GET", "/page/..%2f..%2fapp.py").problem == "not-found"
    assert server.ask("GET", "/page/nothing.mjs").problem == "not-found"
    answer = server.ask("GET", "/v1/caption")
    assert answer.status == 405 and answer.problem == "method-not-allowed" and answer.headers["allow"] == "POST"


def test_every_answer_defends_itself(server: RunningServer) -> None:
    for path in ("/", "/docs", "/page/page.mjs", "/v1/model", "/nothing"):
        headers = server.ask("GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"] and "http" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_the_page_is_kept_until_it_changes(server: RunningServer) -> None:
    first = server.ask("GET", "/")
    assert first.headers["content-type"].startswith("text/html") and b"{palette}" not in first.content
    again = server.ask("GET", "/", If_None_Match=first.headers["etag"])
    assert again.status == 304 and again.content == b""


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost@evil.example"])
def test_another_host_is_not_served(server: RunningServer, host: str) -> None:
    answer = server.ask("GET", "/", headers={"Host": host})
    assert answer.status == 421 and answer.problem == "host-not-served"


def test_monitors_ask_by_address(server: RunningServer) -> None:
    for path in ("/healthz", "/readyz"):
        assert server.ask("GET", path, headers={"Host": "10.1.2.3:8000"}).status == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"])
def test_this_machine_is_served_under_its_names(server: RunningServer, host: str) -> None:
    assert server.ask("GET", "/", headers={"Host": host}).status == 200


def test_pages_of_other_sites_may_not_ask(server: RunningServer) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        answer = server.ask("POST", "/v1/caption", CAT, {"Content-Type": "image/jpeg"} | headers)
        assert answer.status == 403 and answer.problem == "cross-site"
    own = f"http://127.0.0.1:{server.port}"
    assert server.caption(CAT, Origin=own, Sec_Fetch_Site="same-origin").status == 200


def test_simultaneous_requests_share_batches_and_change_nothing(server: RunningServer, captioner: Captioner) -> None:
    before = server.metric("captionlens_batch_photographs_count"), server.metric("captionlens_batch_photographs_sum")
    jobs = [(path, query) for path in PHOTOGRAPHS for query in ("", "?beam=1", "?temperature=1.2&seed=3")]
    with ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(lambda job: server.caption(job[0].read_bytes(), job[1]), jobs))
    options = {
        "": None,
        "?beam=1": DecodingOptions(beam=1, length_penalty=captioner.options.length_penalty),
        "?temperature=1.2&seed=3": DecodingOptions(temperature=1.2, seed=3),
    }
    for (path, query), answer in zip(jobs, answers, strict=True):
        assert answer.json["caption"] == captioner.caption(path, options[query]).text
    batches = server.metric("captionlens_batch_photographs_count") - before[0]
    photographs = server.metric("captionlens_batch_photographs_sum") - before[1]
    assert photographs == len(jobs) > batches
    assert server.metric("captionlens_queue_places") == 0


def test_metrics_tell_what_happened(server: RunningServer) -> None:
    name = 'captionlens_requests_total{route="/v1/caption",status="200"}'
    before = server.metric(name), server.metric('captionlens_rejected_total{problem="host-not-served"}')
    server.caption(CAT)
    server.ask("GET", "/", headers={"Host": "evil.example"})
    assert server.metric(name) == before[0] + 1
    assert server.metric('captionlens_rejected_total{problem="host-not-served"}') == before[1] + 1
    for part in ("upload", "decode", "wait", "encode", "search"):
        assert server.metric(f'captionlens_part_seconds_count{{part="{part}"}}') >= 1
    assert server.metric("captionlens_queue_limit") == 64
    assert server.metric("captionlens_ready") == 1
    assert server.metric("process_resident_memory_bytes") > 1e7


def test_the_log_tells_of_requests_and_not_of_photographs(server: RunningServer) -> None:
    body, headers = form(("my secret cat.jpg", CAT))
    answer = server.ask("POST", "/v1/caption?prefix=a%20cat", body, headers | {"X-Request-ID": "my-request.7"})
    assert answer.headers["x-request-id"] == "my-request.7"
    assert eventually(lambda: any(line.get("id") == "my-request.7" for line in server.log_lines()))
    line = next(line for line in server.log_lines() if line.get("id") == "my-request.7")
    assert line["route"] == "/v1/caption" and line["status"] == 200 and line["method"] == "POST" and line["ms"] > 0
    assert line["bytes"] == len(body)
    text = server.log.read_text()
    assert "secret" not in text and "a cat" not in text and answer.json["caption"] not in text


def test_an_id_that_could_forge_a_line_is_not_taken(server: RunningServer) -> None:
    assert server.ask("GET", "/healthz", X_Request_ID="x y").headers["x-request-id"] != "x y"


def test_uploads_are_bounded() -> None:
    with start_server("--max-upload", 1, "--max-batch-upload", 2, "--queue", 3) as server:
        large = b"x" * (2**20 + 1)
        assert server.caption(CAT).status == 200
        declared = server.caption(large)
        assert declared.status == 413 and declared.problem == "upload-too-large"
        chunked = send_chunks(server, [b"x" * 2**18] * 5)
        assert chunked.startswith("HTTP/1.1 413")
        body, headers = form(*[("cat.jpg", CAT)] * 4)
        assert server.ask("POST", "/v1/caption/batch", body, headers).status == 413  # more than may wait
        body, headers = form(("a.jpg", large), ("b.jpg", CAT))
        assert server.ask("POST", "/v1/caption/batch", body, headers).status == 200  # the bound of batches is another
        assert server.caption(CAT).status == 200


def test_uploads_together_are_bounded() -> None:
    with start_server("--max-uploads", 1, "--max-upload", 2) as server:
        assert server.caption(CAT).status == 200
        refused = server.caption(b"x" * (2**20 + 1))
        assert refused.status == 503 and refused.problem == "queue-full"
        held = socket.create_connection(("127.0.0.1", server.port), 30)
        held.sendall(head("Content-Length: 1048000") + b"x" * 1040000)
        assert eventually(lambda: server.caption(CAT).status == 503)
        held.close()
        assert eventually(lambda: server.caption(CAT).status == 200)


def test_who_sends_all_before_reading_reads_why_it_was_refused() -> None:
    with start_server(env={"CAPTIONLENS_TOKEN": "s3cret"}) as server:
        for _ in range(3):
            assert server.caption(b"x" * 15_000_000).problem == "token-wanted"
            assert server.caption(b"x" * 25_000_000, Authorization="Bearer s3cret").problem == "upload-too-large"


def head(length: str, query: str = "") -> bytes:
    """Of a request with a photograph, up to the empty line."""
    lines = (f"POST /v1/caption{query} HTTP/1.1", "Host: localhost", "Content-Type: image/jpeg", length, "", "")
    return "\r\n".join(lines).encode()


def send_chunks(server: RunningServer, chunks: list[bytes]) -> str:
    """The beginning of the answer to a body whose length is not told."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        for chunk in chunks:
            connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        return connection.recv(4096).decode()


def test_what_takes_too_long_is_given_up() -> None:
    with start_server("--timeout", 2, "--queue", 256) as server:
        server.caption(CAT)
        body, headers = form(*[("cat.jpg", CAT)] * 256)
        late = server.ask("POST", "/v1/caption/batch?beam=10", body, headers)
        assert late.status == 503 and late.problem == "too-late"
        assert eventually(lambda: server.metric("captionlens_queue_places") == 0)
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            connection.sendall(head("Content-Length: 1000") + b"some")
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: ")  # and never the rest
            assert connection.recv(4096) == b""
        assert server.caption(CAT).status == 200


def test_too_many_connections_are_closed() -> None:
    with start_server("--connections", 3) as server:
        held = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(3)]
        time.sleep(0.3)
        assert not connects(server)
        for connection in held:
            connection.close()
        assert eventually(lambda: connects(server))


def connects(server: RunningServer) -> bool:
    try:
        return server.ask("GET", "/healthz").status == 200
    except OSError:
        return False


def test_a_full_queue_says_when_to_come_again() -> None:
    with start_server("--queue", 2, "--batch-size", 1) as server, ThreadPoolExecutor(8) as pool:
        slow = pool.submit(server.caption, CAT, "?faithfulness=true")
        assert eventually(lambda: server.metric("captionlens_queue_places") == 2)
        refused = server.caption(CAT)
        assert refused.status == 503 and refused.problem == "queue-full"
        assert server.metric('captionlens_rejected_total{problem="queue-full"}') == 1
        assert server.ask("GET", "/healthz").status == server.ask("GET", "/readyz").status == 200
        assert slow.result().status == 200
        answers = list(pool.map(server.caption, [CAT] * 8))
        assert {answer.status for answer in answers} == {200, 503}
        assert server.caption(CAT).status == 200
        assert server.metric("captionlens_queue_places") == 0


def test_who_goes_costs_nothing_more() -> None:
    with start_server() as server:
        gone = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(4)]
        for connection in gone:
            connection.sendall(head(f"Content-Length: {len(CAT)}", "?faithfulness=true") + CAT)
        assert eventually(lambda: server.metric("captionlens_queue_places") == 64)
        for connection in gone:
            connection.close()
        assert eventually(lambda: server.metric("captionlens_queue_places") == 0, 2)
        assert eventually(lambda: server.metric("captionlens_cancelled_total") >= 3)
        assert server.metric('captionlens_part_seconds_count{part="examine"}') <= 1
        assert server.metric('captionlens_requests_total{route="/v1/caption",status="499"}') == 4


def test_what_has_begun_is_finished_before_the_end() -> None:
    with start_server() as server, ThreadPoolExecutor(3) as pool:
        begun = [pool.submit(server.caption, CAT, "?faithfulness=true") for _ in range(3)]
        assert eventually(lambda: server.metric("captionlens_queue_places") == 48)
        server.process.send_signal(signal.SIGTERM)
        assert [answer.result().status for answer in begun] == [200] * 3
        assert server.process.wait(30) == 0
        assert not connects(server)


@pytest.mark.parametrize("how", ["environment", "file"])
def test_a_token_is_asked_for(how: str, tmp_path: Any) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    flags = ["--token-file", tmp_path / "token"] if how == "file" else []
    env = {"CAPTIONLENS_TOKEN": "s3cret"} if how == "environment" else {}
    with start_server(*flags, env=env) as server:
        for header in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "s3cret"},
            {"Authorization": "Basic s3cret"},
        ):
            for answer in (
                server.caption(CAT, **header),
                server.ask("GET", "/v1/model", headers=header),
                server.ask("GET", "/metrics", headers=header),
            ):
                assert answer.status == 401 and answer.problem == "token-wanted"
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert server.caption(CAT, Authorization="Bearer s3cret").status == 200
        for path in ("/", "/healthz", "/readyz", "/docs", "/openapi.json"):
            assert server.ask("GET", path).status == 200
        assert server.ask("GET", "/openapi.json").json["components"]["securitySchemes"]
        assert "s3cret" not in server.log.read_text()


def test_a_client_that_is_too_fast_waits() -> None:
    with start_server("--rate", 3) as server:
        answers = [server.caption(CAT) for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[-1].problem == "too-many-requests" and 1 <= int(answers[-1].headers["retry-after"]) <= 20
        assert server.ask("GET", "/v1/model").status == 200


def test_pages_that_may_ask_are_told_so() -> None:
    with start_server("--allow-origin", "https://example.org", "--allow-host", "captions.example") as server:
        allowed = server.caption(CAT, Origin="https://example.org", Sec_Fetch_Site="cross-site")
        assert allowed.status == 200 and allowed.headers["access-control-allow-origin"] == "https://example.org"
        asked = server.ask("OPTIONS", "/v1/caption", Origin="https://example.org", Access_Control_Request_Method="POST")
        assert asked.status == 200 and "POST" in asked.headers["access-control-allow-methods"]
        assert server.caption(CAT, Origin="https://evil.example").status == 403
        assert server.ask("GET", "/", headers={"Host": "captions.example"}).status == 200


def test_below_a_path_of_a_proxy() -> None:
    with start_server("--root-path", "/captions", env={"CAPTIONLENS_QUEUE": "7"}) as server:
        assert server.url.endswith("/captions/")
        assert server.ask("GET", "/healthz").status == 200  # the proxy takes its path away
        assert server.ask("GET", "/openapi.json").json["servers"] == [{"url": "/captions"}]
        page = server.ask("GET", "/").content.decode()
        assert not re.search(r"""(?:src|href)=["']/""", page)
        assert server.caption(CAT).status == 200
        assert server.ask("GET", "/v1/model").json["limits"]["batch_photographs"] == 7


def test_a_model_that_knows_no_regions_says_so(monkeypatch: pytest.MonkeyPatch, captioner: Captioner) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    from captionlens.server.app import create_app

    monkeypatch.setattr(captioner.network, "_places", 100)  # as with graphs of an earlier export
    with testclient.TestClient(create_app(captioner), "http://localhost") as client:
        answer = client.post("/v1/caption?region=0,0,.5,.5", content=CAT, headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 422 and "export it anew" in answer.json()["detail"]
        assert str(captionlens.__path__[0]) not in answer.text
        assert client.post("/v1/caption", content=CAT, headers={"Content-Type": "image/jpeg"}).status_code == 200


def test_errors_of_our_own_tell_nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch, captioner: Captioner) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    from captionlens.server.app import create_app

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret of somebody/place.py")

    monkeypatch.setattr(captioner, "encode", fail)
    with testclient.TestClient(create_app(captioner), "http://localhost", raise_server_exceptions=False) as client:
        answer = client.post("/v1/caption", content=CAT, headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 500
        assert answer.json()["type"].endswith(":internal-error")
        assert "secret" not in answer.text and "place" not in answer.text
        assert json.loads(client.get("/readyz").text) == {"status": "ready"}
