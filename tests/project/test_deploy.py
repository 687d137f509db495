"""What deploy/ says of the service is true: flags, environment, limits; and nginx offers it under a sub-path."""

import configparser
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest

from helpers.paths import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
UNIT = (DEPLOY / "captionlens.service").read_text(encoding="utf-8")
NGINX = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
PHOTOGRAPH = REPOSITORY / "examples" / "photographs" / "cat.jpg"
TOKEN = "CAPTIONLENS_TOKEN"  # the one variable that stands for no flag
OF_OTHER_COMMANDS = {
    *("--publish", "--rm", "--read-only", "--tmpfs", "--cap-drop", "--security-opt", "--memory", "--stop-timeout"),
    *("--no-deps", "--wheel-dir", "--without-pip", "--python", "--constraint", "--from"),
    *("--system", "--gid", "--uid", "--no-create-home", "--home-dir", "--shell"),
    *("--interval", "--timeout", "--start-period", "--retries", "--now"),
}


@pytest.fixture(scope="module")
def options() -> dict[str, click.Option]:
    """The flags of `captionlens serve`, by name."""
    from captionlens.cli.serve import serve

    return {name: option for option in serve.params if isinstance(option, click.Option) for name in option.opts}


@pytest.fixture(scope="module")
def settings() -> Any:
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from captionlens.server.settings import Settings

    return Settings()


@pytest.fixture(scope="module")
def unit() -> configparser.SectionProxy:
    """The section [Service] of the unit; of a key that is there twice, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT)
    assert parser.sections() == ["Unit", "Service", "Install"]
    return parser["Service"]


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Its instructions and what stands behind them, without comments, with continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines)).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined)]


# Flags and environment.


@pytest.mark.parametrize("text", [DOCKERFILE, UNIT, NGINX], ids=["Dockerfile", "unit", "nginx"])
def test_flags_and_variables_exist(text: str, options: dict[str, click.Option]) -> None:
    commands = re.findall(r"captionlens[\"', ]+serve\b(.*)", text)
    flags = {flag for command in commands for flag in re.findall(r"--[a-z][a-z-]*", command)}
    assert flags
    # In prose, too: what looks like a flag is one, of this command or of another that is shown.
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert flags | (mentioned - OF_OTHER_COMMANDS) <= set(options)
    for variable in set(re.findall(r"CAPTIONLENS_[A-Z_]+", text)) - {TOKEN}:
        assert "--" + variable.removeprefix("CAPTIONLENS_").lower().replace("_", "-") in options, variable


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch, options: dict[str, click.Option]) -> None:
    from captionlens.cli import main
    from captionlens.cli.serve import serve

    environment = {
        "CAPTIONLENS_ALLOW_HOST": "captions.example.org other.example.org",
        "CAPTIONLENS_ROOT_PATH": "/captions",
        "CAPTIONLENS_PROXY": "127.0.0.1",
        "CAPTIONLENS_QUEUE": "32",
        "CAPTIONLENS_RATE": "60",
    }
    assert set(environment) | {TOKEN} == set(re.findall(r"CAPTIONLENS_[A-Z_]+", DOCKERFILE + UNIT + NGINX))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parent = click.Context(main, info_name="captionlens")
    values = serve.make_context("serve", [], parent=parent).params
    assert values["allow_host"] == ("captions.example.org", "other.example.org")
    assert (values["root_path"], values["proxy"]) == ("/captions", "127.0.0.1")
    assert (values["queue"], values["rate"]) == (32, 60)


# The container.


def test_the_container_runs_without_root() -> None:
    user = [rest for word, rest in instructions(DOCKERFILE) if word == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user[-1])  # a number, which Kubernetes can check
    assert DOCKERFILE.index("USER ") > DOCKERFILE.rindex("RUN ")


def test_the_container_listens_where_it_says(options: dict[str, click.Option]) -> None:
    lines = instructions(DOCKERFILE)
    exposed = [rest for word, rest in lines if word == "EXPOSE"]
    assert exposed == [str(options["--port"].default)]
    (command,) = (rest for word, rest in lines if word == "CMD")
    assert command == '["captionlens", "serve", "--host", "0.0.0.0"]'
    (check,) = (rest for word, rest in lines if word == "HEALTHCHECK")
    assert f"'127.0.0.1', {exposed[0]}," in check and "'/healthz'" in check


def test_the_container_is_made_from_what_the_context_has() -> None:
    """.dockerignore leaves out all but a few names; these must exist, and be all that is copied."""
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied: set[str] = set()
    for word, rest in instructions(DOCKERFILE):
        if word == "COPY" and "--from" not in rest:
            copied |= set(shlex.split(rest)[:-1])
    assert copied == kept
    assert all((REPOSITORY / name).exists() for name in kept)


def test_onnx_runtime_tells_nobody_how_it_is_used(unit: configparser.SectionProxy) -> None:
    """Its official builds do, unless this is set before they are loaded."""
    environment = [rest for word, rest in instructions(DOCKERFILE) if word == "ENV"]
    assert "ORT_DISABLE_TELEMETRY=1" in environment[-1].split()
    assert "ORT_DISABLE_TELEMETRY=1" in unit["Environment"].split()


# The unit.


def test_the_unit_confines_the_service(unit: configparser.SectionProxy) -> None:
    assert unit["DynamicUser"] == unit["NoNewPrivileges"] == unit["PrivateTmp"] == "yes"
    assert unit["ProtectSystem"] == "strict"
    assert unit["CapabilityBoundingSet"] == ""
    assert re.fullmatch(r"\d+G", unit["MemoryMax"])


def test_the_unit_hands_over_the_token(unit: configparser.SectionProxy) -> None:
    name, _, path = unit["LoadCredential"].partition(":")
    command = shlex.split(unit["ExecStart"])
    assert command[command.index("--token-file") + 1] == f"%d/{name}"
    assert f"> {path})" in UNIT  # the comment makes that file


def test_the_unit_waits_for_what_has_begun(unit: configparser.SectionProxy, settings: Any) -> None:
    assert unit["KillSignal"] == "SIGTERM"
    assert int(unit["TimeoutStopSec"]) > settings.timeout + 5
    stop = re.search(r"--stop-timeout (\d+)", DOCKERFILE)
    assert stop is not None and int(stop[1]) > settings.timeout + 5


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    program = tmp_path / "captionlens"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / "captionlens.service"
    copy.write_text(UNIT.replace("ExecStart=/opt/captionlens/bin/captionlens", f"ExecStart={program}"))
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    told = [line for line in done.stderr.splitlines() if "captionlens" in line]
    assert (done.returncode, told) == (0, []), done.stderr


# nginx.


def directive(name: str, text: str = NGINX) -> list[str]:
    """What stands behind a directive wherever it is, without comments."""
    return re.findall(rf"^\s*{name}\s+([^;#]*);", text, re.MULTILINE)


def test_nginx_lets_pass_what_the_service_takes(settings: Any) -> None:
    sizes = {
        location: int(size) * 2**20
        for location, size in re.findall(r"location (?:= )?(\S+) \{[^}]*client_max_body_size (\d+)m;", NGINX)
    }
    one = sizes.pop("/captions/")
    assert settings.upload_bytes < one < 2 * settings.upload_bytes
    assert set(sizes) == {"/captions/v1/caption/batch", "/captions/api/", "/captions/v1/chat/completions"}
    for several in sizes.values():
        assert settings.batch_upload_bytes < several < 2 * settings.batch_upload_bytes


def test_nginx_waits_longer_than_the_service(settings: Any) -> None:
    (seconds,) = directive("proxy_read_timeout")
    assert int(seconds.removesuffix("s")) > settings.timeout
    assert directive("proxy_request_buffering") == ["on"]


@contextmanager
def running_nginx(folder: Path, upstream: str) -> Iterator[int]:
    """nginx with deploy/nginx.conf, on a free port and before `upstream` (host:port); yields the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    site = NGINX.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("listen [::]:80;", "")
    assert site.count("server 127.0.0.1:8000;") == 1
    (folder / "site.conf").write_text(site.replace("server 127.0.0.1:8000;", f"server {upstream};"))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;\n" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}include {folder}/site.conf;\n}}\n"
    )
    command = ["nginx", "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(500):
            assert process.poll() is None, (folder / "error.log").read_text()
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body of what captions.example.org answers on that port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, {"Host": "captions.example.org", **given})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


@pytest.mark.slow
def test_nginx_takes_the_sub_path_off(tmp_path: Path) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("needs nginx")

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            told = ("Host", "X-Forwarded-For", "X-Forwarded-Proto")
            self.wfile.write(json.dumps([self.path, *(self.headers[name] for name in told)]).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        with running_nginx(tmp_path, f"127.0.0.1:{server.server_address[1]}") as port:
            for path in (
                "/", "/v1/caption?beam=5&prefix=a%20dog", "/v1/caption/batch?beam=1", "/v1/caption/figure",
                "/api/chat", "/v1/chat/completions",
            ):  # fmt: skip
                _, _, content = ask(port, "POST", "/captions" + path, b"x", X_Forwarded_For="192.0.2.7")
                assert json.loads(content) == [path, "captions.example.org", "127.0.0.1", "http"]
            several = ("/v1/caption/batch", "/api/generate", "/v1/chat/completions")
            for path, most in (("/captions/v1/caption", 20), *((f"/captions{path}", 100) for path in several)):
                assert ask(port, "POST", path, bytes(most * 2**20))[0] == 200
                assert ask(port, "POST", path, Content_Length=str((most + 2) * 2**20))[0] == 413
            assert ask(port, "POST", "/elsewhere", b"x")[0] == 404
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_the_service_behind_nginx(tmp_path: Path) -> None:
    """Under the sub-path, with the flags that nginx.conf names."""
    from helpers.server import start_server

    if shutil.which("nginx") is None:
        pytest.skip("needs nginx")
    named = re.search(r"^#\s+captionlens serve (--.*)$", NGINX, re.MULTILINE)
    assert named is not None
    with start_server("--threads", "1", "--rate", "2", *named[1].split()) as server:
        upstream = re.match(r"http://([^/]+)", server.url)
        assert upstream is not None
        with running_nginx(tmp_path, upstream[1]) as port:
            status, headers, _ = ask(port, "GET", "/captions")
            assert (status, headers["Location"]) == (308, "/captions/")
            assert ask(port, "GET", "/captions/")[0] == 200
            assert ask(port, "GET", "/captions/page/page.css")[0] == 200
            assert ask(port, "GET", "/captions/readyz")[0] == 200
            assert ask(port, "GET", "/captions/metrics")[0] == 404
            assert ask(port, "GET", "/captions/v1/model", Host="elsewhere.example.org")[0] == 421
            openapi = json.loads(ask(port, "GET", "/captions/openapi.json")[2])
            assert openapi["servers"] == [{"url": "/captions"}]
            origin = "http://captions.example.org"  # as a browser says when its page sends a photograph
            post = {"Content_Type": "image/jpeg", "Origin": origin}
            status, _, content = ask(port, "POST", "/captions/v1/caption", PHOTOGRAPH.read_bytes(), **post)
            assert status == 200 and json.loads(content)["caption"]
            assert ask(port, "POST", "/captions/v1/caption/batch", b"", **post)[0] == 415
            # The third of a client that may ask twice a minute, whatever address it makes up.
            status, _, _ = ask(port, "POST", "/captions/v1/caption", b"x", **post, X_Forwarded_For="192.0.2.7")
            assert status == 429
