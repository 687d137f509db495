"""The example clients of examples/clients: with the real service, and with one that is too busy."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captionlens.runtime.caption import Caption
from captionlens.runtime.captioner import load
from helpers.paths import REPOSITORY

pytestmark = pytest.mark.slow

CLIENTS = REPOSITORY / "examples" / "clients"
PHOTOGRAPHS = REPOSITORY / "examples" / "photographs"
TOKEN = "correct horse"
ODD_NAME = 'it\'s "the" 猫, 100% a;type=b @&=+?#.jpg'

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=["caption.sh", "caption.py", "caption.mjs"])
def run_client(request: pytest.FixtureRequest) -> Run:
    """One of the clients, for photographs `paths` and the service at `url`."""
    return client(request.param)


def client(name: str) -> Run:
    if name == "caption.sh" and (os.name == "nt" or shutil.which("curl") is None):
        pytest.skip("needs sh and curl")
    if name == "caption.mjs" and shutil.which("node") is None:
        pytest.skip("needs node")
    program = {".sh": "sh", ".py": sys.executable, ".mjs": "node"}[Path(name).suffix]

    def run(url: str, *paths: str | Path, token: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        ours = {"CAPTIONLENS_URL": url, "CAPTIONLENS_TOKEN": token, "no_proxy": "127.0.0.1"}
        command = [program, str(CLIENTS / name), *map(str, paths)]
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", env=os.environ | ours, timeout=120, check=False
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


# With the real service.


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from helpers.server import start_server

    with start_server("--threads", "1", env={"CAPTIONLENS_TOKEN": TOKEN}) as server:
        yield server.url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph, one with a name that wants care, and a damaged one."""
    folder = tmp_path_factory.mktemp("photographs")
    shutil.copy(PHOTOGRAPHS / "photographer.jpg", folder / "plain.jpg")
    if os.name == "nt":
        pytest.skip("no file may be called so on Windows")
    shutil.copy(PHOTOGRAPHS / "cat.jpg", folder / ODD_NAME)
    (folder / "damaged.jpg").write_bytes((PHOTOGRAPHS / "cat.jpg").read_bytes()[:9000])
    return folder


@pytest.fixture(scope="module")
def captions(folder: Path) -> dict[str, Caption]:
    """By the photograph's name, what Python says."""
    captioner = load(threads=1)
    return {name: captioner.caption(folder / name) for name in ("plain.jpg", ODD_NAME)}


def test_a_client_says_what_python_says(run_client: Run, url: str, folder: Path, captions: dict[str, Caption]) -> None:
    done = run_client(url, *(folder / name for name in captions), token=TOKEN)
    assert done.stdout == "".join(f"{folder / name}\t{caption.text}\n" for name, caption in captions.items())
    assert done.stderr == ""


def test_what_fails_is_told_and_the_others_go_on(
    run_client: Run, url: str, folder: Path, captions: dict[str, Caption]
) -> None:
    paths = [folder / "damaged.jpg", folder / "missing.jpg", folder, folder / "plain.jpg"]
    done = run_client(url, *paths, token=TOKEN, code=1)
    assert done.stdout == f"{folder / 'plain.jpg'}\t{captions['plain.jpg'].text}\n"
    damaged, missing, is_folder = done.stderr.splitlines()
    assert damaged.startswith(f"{folder / 'damaged.jpg'}: ")
    assert "truncated" in damaged and "422" in damaged
    assert missing.startswith(f"{folder / 'missing.jpg'}: ")
    assert is_folder.startswith(f"{folder}: ")


@pytest.mark.parametrize("token", ["", "wrong horse"])
def test_without_the_right_token_nothing_is_captioned(run_client: Run, url: str, folder: Path, token: str) -> None:
    done = run_client(url, folder / "plain.jpg", folder / ODD_NAME, token=token, code=1)
    assert done.stdout == ""
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [
        str(folder / "plain.jpg"),
        str(folder / ODD_NAME),
    ]
    assert done.stderr.count("401") == 2
    assert "Authorization" in done.stderr


def test_where_a_word_looked(url: str, folder: Path, captions: dict[str, Caption]) -> None:
    done = client("caption.py")(url, "--where", folder / "plain.jpg", token=TOKEN)
    first, *lines = done.stdout.splitlines()
    caption = captions["plain.jpg"]
    assert first == f"{folder / 'plain.jpg'}\t{caption.text}"
    assert caption.attention is not None
    for line, word, weights in zip(lines, caption.words, caption.attention, strict=True):
        row, column = np.unravel_index(weights.argmax(), weights.shape)
        assert line.startswith(f"  {word.text}: row {row + 1}, column {column + 1} (")


# With a service that answers what a test says.


@dataclass
class Stub:
    """What it answers, one after the other (the last again and again), and what it was asked."""

    answers: list[tuple[int, dict[str, str], dict[str, Any]]]
    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def stub() -> Iterator[Stub]:
    told = Stub([])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status, headers, content = told.answers[min(len(told.requests), len(told.answers)) - 1]
            self._answer(status, headers, json.dumps(content, separators=(",", ":")).encode())

        def do_GET(self) -> None:
            script = self.path == "/caption.mjs"
            content = (CLIENTS / "caption.mjs").read_bytes() if script else b"<!doctype html><title>A page</title>"
            self._answer(200, {"Content-Type": "text/javascript" if script else "text/html"}, content)

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


BUSY = {"Retry-After": "1"}


def test_a_client_waits_when_it_is_told_to(run_client: Run, stub: Stub, tmp_path: Path) -> None:
    stub.answers = [
        (503, BUSY, {"detail": "too many are waiting"}),
        (429, BUSY, {"detail": "more than 60 a minute"}),
        (200, {}, {"path": "-", "caption": 'a "dog" \\ runs', "words": [{"text": "caption"}, {"text": "dog"}]}),
    ]
    content = bytes(range(256)) * 1000  # as it is, and no text that line ends could be changed of
    photograph = tmp_path / "photo.JPG"
    photograph.write_bytes(content)
    assert run_client(stub.url + "/below/", photograph).stdout == f'{photograph}\ta "dog" \\ runs\n'
    assert len(stub.requests) == 3
    for path, headers, body in stub.requests:
        assert path.rstrip("?") == "/below/v1/caption"
        assert headers["content-type"] == "image/jpeg"
        assert "authorization" not in headers
        assert body == content


def test_a_client_does_not_wait_forever(run_client: Run, stub: Stub, tmp_path: Path) -> None:
    stub.answers = [(503, BUSY, {"title": "Too many photographs", "detail": '64 of them, "all" waiting'})]
    (tmp_path / "photo").write_bytes(b"x")
    done = run_client(stub.url, tmp_path / "photo", token=TOKEN, code=1)
    assert done.stderr == f'{tmp_path / "photo"}: 64 of them, "all" waiting (status 503)\n'
    assert len(stub.requests) == 5
    _, headers, _ = stub.requests[0]
    assert headers["content-type"] == "application/octet-stream"
    assert headers["authorization"] == f"Bearer {TOKEN}"


def test_a_service_that_is_not_there(run_client: Run, tmp_path: Path) -> None:
    with socket.socket() as bound:  # but does not listen
        bound.bind(("127.0.0.1", 0))
        (tmp_path / "photo.png").write_bytes(b"x")
        done = run_client(f"http://127.0.0.1:{bound.getsockname()[1]}", tmp_path / "photo.png", code=1)
    assert done.stdout == ""
    assert f"{tmp_path / 'photo.png'}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_the_client_in_javascript_runs_in_a_page(browser: Any, stub: Stub) -> None:
    stub.answers = [(200, {"Content-Type": "application/json"}, {"caption": "a dog runs"})]
    page = browser.new_page()
    page.goto(stub.url)
    found = page.evaluate(
        """async () => {
            const { caption } = await import("/caption.mjs");
            const photograph = new File(["content"], "photo.webp", { type: "image/webp" });
            return caption(photograph, { url: location.origin, token: "secret", query: { beam: 5 } });
        }"""
    )
    page.close()
    assert found == {"caption": "a dog runs"}
    ((path, headers, body),) = stub.requests
    assert (path, body) == ("/v1/caption?beam=5", b"content")
    assert (headers["content-type"], headers["authorization"]) == ("image/webp", "Bearer secret")
