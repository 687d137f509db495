"""`captionlens serve` before it serves: what it is asked, and what it refuses."""

import socket
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
from helpers.cli import run_cli
from helpers.server import start_server
from helpers.waiting import eventually


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert (
            f"cannot listen on 127.0.0.1 port {port}: Address already in use"
            in run_cli("serve", "--port", str(port), code=2).output
        )


def test_answers_are_not_held_back() -> None:
    """asyncio turns Nagle's algorithm off for sockets that say that they are TCP's: else an answer takes 40 ms more."""
    from captionlens.server.run import listen

    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith(("captionlens.server", "fastapi"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "fastapi", None)  # as where it is not installed
    assert "pip install 'captionlens[serve]'" in run_cli("serve", code=1).output


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--root-path", "captions"], "root_path"),
        (["--root-path", "/captions/"], "root_path"),
        (["--allow-origin", "example.org"], "https://example.org"),
        (["--queue", "0"], "--queue"),
        (["--timeout", "0"], "--timeout"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_settings_that_make_no_sense(flags: list[str], told: str) -> None:
    assert told in run_cli("serve", *flags, code=1 if told == "nowhere" else 2).output


def test_an_empty_token_is_no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever sets one, and it comes out empty, must not end up with an open service."""
    monkeypatch.setenv("CAPTIONLENS_TOKEN", "")
    assert "token" in run_cli("serve", code=2).output
    monkeypatch.delenv("CAPTIONLENS_TOKEN")
    (tmp_path / "token").write_bytes("geheim-ä".encode())
    assert "is not ASCII" in run_cli("serve", "--token-file", tmp_path / "token", code=1).output
    assert "no-such" in run_cli("serve", "--token-file", tmp_path / "no-such", code=1).output


@pytest.mark.slow
def test_the_environment_sets_what_flags_set() -> None:
    env = {"CAPTIONLENS_QUEUE": "5", "CAPTIONLENS_MAX_UPLOAD": "3", "CAPTIONLENS_ALLOW_HOST": "a.example b.example"}
    with start_server("--queue", 6, env=env | {"CAPTIONLENS_LOG": "text"}) as server:
        limits = server.ask("GET", "/v1/model").json["limits"]
        assert limits["batch_photographs"] == 6  # a flag goes first
        assert limits["upload_bytes"] == 3 * 2**20
        for host, status in (("a.example", 200), ("b.example", 200), ("c.example", 421)):
            assert server.ask("GET", "/", headers={"Host": host}).status == status
        assert eventually(lambda: "GET / 421" in server.log.read_text())
        assert server.log_lines() == []


@pytest.mark.slow
def test_an_open_door_is_told() -> None:
    with start_server("--host", "0.0.0.0") as server:
        assert "everybody who reaches this address may use it" in server.log.read_text()
        assert server.ask("GET", "/healthz").status == 200
    with start_server("--host", "0.0.0.0", env={"CAPTIONLENS_TOKEN": "s3cret"}) as server:
        assert "everybody" not in server.log.read_text()
