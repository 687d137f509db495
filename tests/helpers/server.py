"""`captionlens serve` as a process of its own, and a client for it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUNDARY = "a1b2c3"


@dataclass
class Answer:
    """Of the service."""

    status: int
    headers: dict[str, str]  # names in lower case
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def problem(self) -> str:
        """The last part of the type of a problem, which must be a whole one."""
        assert self.headers["content-type"] == "application/problem+json"
        told = self.json
        assert told["status"] == self.status and told["title"] and told["detail"]
        assert self.status not in (429, 503) or int(self.headers["retry-after"]) >= 1
        return str(told["type"]).removeprefix("urn:captionlens:problem:")


@dataclass
class RunningServer:
    """A service that listens."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def port(self) -> int:
        found = re.search(r":(\d+)/", self.url)
        assert found is not None
        return int(found[1])

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, **more: str
    ) -> Answer:
        """Send a request; `more` are headers with underscores."""
        sent = {name.replace("_", "-"): value for name, value in more.items()} | (headers or {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def caption(self, content: bytes, query: str = "", **headers: str) -> Answer:
        """POST a photograph as it is."""
        headers.setdefault("Content_Type", "image/jpeg")
        return self.ask("POST", f"/v1/caption{query}", content, None, **headers)

    def metric(self, name: str) -> float:
        """A metric's value, labels and all; 0 where it has none yet."""
        text = self.ask("GET", "/metrics").content.decode()
        for line in text.splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0

    def log_lines(self) -> list[dict[str, Any]]:
        """What has been logged so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def form(*files: tuple[str, bytes], field: str = "file") -> tuple[bytes, dict[str, str]]:
    """Body and headers of a form with files; names may hold anything but quotes and line ends."""
    parts = [
        b"--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\n\r\n%s\r\n"
        % (BOUNDARY.encode(), field.encode(), name.encode("utf-8", "surrogateescape"), content)
        for name, content in files
    ]  # fmt: skip
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@contextmanager
def start_server(*flags: object, env: dict[str, str] | None = None) -> Iterator[RunningServer]:
    """The service on a free port. It must end well when it is told to."""
    command = [sys.executable, "-m", "captionlens", "serve", "--port", "0", *map(str, flags)]
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("CAPTIONLENS_")}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        log = Path(scratch) / "log"
        stderr = stack.enter_context(log.open("w"))
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=surroundings | (env or {}))
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http"), log.read_text()
        yield RunningServer(url, process, log)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
