"""What stands before every request: who may ask, how much may be sent, how long it may take.

Plain ASGI, so that bodies are counted while they arrive.
"""

import asyncio
import hmac
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captionlens.server import problems
from captionlens.server.metrics import Metrics
from captionlens.server.problems import Problem
from captionlens.server.settings import LOCAL_HOSTS, MIB, Settings

BATCH = "/v1/caption/batch"
_HEALTH = ("/healthz", "/readyz")  # monitors ask by address
_READING = ("GET", "HEAD", "OPTIONS")
_MOST_CLIENTS = 10_000  # whose pace is remembered
_MOST_DRAINED = 64 * MIB
_DRAIN_S = 2.0


class Guard:
    """Refuses what may not pass, and bounds the bodies of what may.

    Args:
        app: what answers the rest.
        settings: hosts, origins, token, rate, bytes, seconds.
        metrics: where refusals are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.pace = Pace(settings.rate)
        self._uploads = _Uploads(settings.uploads_bytes)
        self._hosts = {*LOCAL_HOSTS, *(host.lower() for host in settings.allow_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self.settings.batch_upload_bytes if route_path(scope) == BATCH else self.settings.upload_bytes
        body = _Body(receive, limit, self._uploads, headers)

        async def send_after_upload(message: Message) -> None:
            if message["type"] == "http.response.start":
                await body.drain()
            await send(message)

        try:
            self._check(scope, headers)
            body.check_length()
            await self.app(scope, body.receive, send_after_upload)
        except Problem as problem:
            self.metrics.rejected.labels(problem.kind.slug).inc()
            await problem.response()(scope, receive, send_after_upload)
        finally:
            body.release()

    def _check(self, scope: Scope, headers: Headers) -> None:
        path, method = route_path(scope), scope["method"]
        if path not in _HEALTH:
            self._check_host(headers)
        self._check_site(method, headers)
        if method != "OPTIONS" and (path.startswith("/v1/") or path == "/metrics"):
            self._check_token(headers)
        if method == "POST":
            client = scope.get("client")
            self.pace.take(client[0] if client else "")

    def _check_host(self, headers: Headers) -> None:
        """A page elsewhere may make a browser believe that its own name is this machine's (DNS rebinding)."""
        if "*" in self._hosts:
            return
        given = headers.get("host", "")
        if _host_name(given) not in self._hosts:
            told = problems.clean(given)[:100]
            raise Problem(problems.MISDIRECTED, f"not served under the name {told!r} (--allow-host adds names)")

    def _check_site(self, method: str, headers: Headers) -> None:
        """Browsers send forms across sites without asking; they say where a request comes from."""
        if method in _READING:
            return
        origin = headers.get("origin")
        if origin in self.settings.allow_origins:
            return
        from_elsewhere = origin is not None and _host_name(_netloc(origin)) != _host_name(headers.get("host", ""))
        if from_elsewhere or headers.get("sec-fetch-site") == "cross-site":
            raise Problem(problems.CROSS_SITE, "this page may not send photographs here (--allow-origin adds pages)")

    def _check_token(self, headers: Headers) -> None:
        token = self.settings.token
        if token is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # In constant time: how long it takes must not tell how much of a guess is right.
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
        if scheme.lower() != "bearer" or not right:
            raise Problem(
                problems.UNAUTHORIZED,
                "send the header Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="captionlens"'},
            )


class Pace:
    """How many requests with photographs a client may send: `rate` a minute, as many at once (a token bucket).

    Args:
        rate: a minute; 0 is without limit.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was so

    def take(self, client: str) -> None:
        """Count one request.

        Raises:
            Problem: it is one too many; with the seconds until the next may come.
        """
        if not self.rate:
            return
        now = time.monotonic()
        left, since = self._clients.pop(client, (float(self.rate), now))
        left = min(float(self.rate), left + (now - since) * self.rate / 60)
        allowed = left >= 1
        self._clients[client] = (left - 1 if allowed else left, now)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        if not allowed:
            seconds = math.ceil((1 - left) * 60 / self.rate)
            raise Problem(problems.TOO_FAST, f"more than {self.rate} a minute", retry_after=max(1, seconds))


@dataclass(slots=True)
class _Uploads:
    """The bytes of all uploads that are held."""

    limit: int
    held: int = 0


class _Body:
    """A request's body, counted while it arrives: alone, and together with those of all other requests."""

    def __init__(self, receive: Receive, limit: int, uploads: _Uploads, headers: Headers) -> None:
        self._receive = receive
        self._limit = limit
        self._uploads = uploads
        self._headers = headers
        self._held = 0
        # A request without these has no body, and whoever waits for a hundred-continue has not sent it yet.
        sent = "content-length" in headers or "transfer-encoding" in headers
        self._ended = not sent or "expect" in headers

    def check_length(self) -> None:
        """Refuse what is too large by its own words."""
        declared = self._headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next part.

        Raises:
            Problem: it is too much.
        """
        message = await self._receive()
        size = len(message.get("body", b""))
        self._held += size
        self._uploads.held += size
        if not message.get("more_body", False):
            self._ended = True
        if self._held > self._limit:
            raise self._too_large()
        if self._uploads.held > self._uploads.limit:
            raise Problem(problems.FULL, "too much is being uploaded at once", retry_after=1)
        return message

    async def drain(self) -> None:
        """Take in what is still on its way, within limits: many clients read no answer before they have sent all."""
        left = _MOST_DRAINED
        try:
            async with asyncio.timeout(_DRAIN_S):
                while not self._ended and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._ended = not message.get("more_body", False)
        except TimeoutError:
            pass

    def release(self) -> None:
        """The request is over."""
        self._uploads.held -= self._held

    def _too_large(self) -> Problem:
        return Problem(problems.TOO_LARGE, f"more than {self._limit} bytes")


def route_path(scope: Scope) -> str:
    """The path below where the service is offered."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _netloc(origin: str) -> str:
    """Host and port of an origin; of `null` and other oddities nothing that a host is called."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """A Host header without its port, IPv6 addresses without brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
