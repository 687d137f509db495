"""Access control and upload limits, as ASGI middleware: host, origin, token, rate, bytes.

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

from captionlens.server import dialects, problems
from captionlens.server.metrics import Metrics
from captionlens.server.problems import Problem
from captionlens.server.settings import LOCAL_HOSTS, MIB, Settings

# Requests of several photographs. In JSON, one is a third larger than its file.
_SEVERAL = ("/v1/caption/batch", "/api/generate", "/api/chat", "/v1/chat/completions")
_HEALTH = ("/healthz", "/readyz")  # monitors ask by address
_READING = ("GET", "HEAD", "OPTIONS")
_MOST_CLIENTS = 10_000  # whose pace is remembered
_MOST_DRAINED = 64 * MIB
_DRAIN_S = 2.0


class Guard:
    """Middleware that refuses requests which are not allowed, and limits the bodies of the others.

    Args:
        app: the application behind it.
        settings: allowed hosts and origins, token, rate, bytes.
        metrics: counts refusals.
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
        path = route_path(scope)
        limit = self.settings.batch_upload_bytes if path in _SEVERAL else self.settings.upload_bytes
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
            await dialects.respond(problem, path)(scope, receive, send_after_upload)
        finally:
            body.release()

    def _check(self, scope: Scope, headers: Headers) -> None:
        path, method = route_path(scope), scope["method"]
        if path not in _HEALTH:
            self._check_host(headers)
        self._check_site(method, headers)
        if method != "OPTIONS" and wants_token(path):
            self._check_token(headers)
        if method == "POST":
            client = scope.get("client")
            self.pace.take(client[0] if client else "", time.monotonic())

    def _check_host(self, headers: Headers) -> None:
        """Refuse other names: a site could let its own name point to this machine (DNS rebinding)."""
        if "*" in self._hosts:
            return
        given = headers.get("host", "")
        if _host_name(given) not in self._hosts:
            named = problems.clean(given)[:100]
            raise Problem(problems.MISDIRECTED, f"not served under the name {named!r} (--allow-host adds names)")

    def _check_site(self, method: str, headers: Headers) -> None:
        """Refuse requests from pages of other sites: browsers send forms across sites, and name their origin."""
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
        # In constant time: the duration must not reveal how much of a guess is right.
        right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
        if scheme.lower() != "bearer" or not right:
            raise Problem(
                problems.UNAUTHORIZED,
                "send the header Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="captionlens"'},
            )


class Pace:
    """Rate limit of each client's POST requests: a token bucket that holds `rate` and gains `rate` a minute.

    Args:
        rate: requests a minute; 0 is without limit.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, and when that was counted

    def take(self, client: str, now: float) -> None:
        """Count one request.

        Args:
            client: its address.
            now: seconds of a monotonic clock.

        Raises:
            Problem: TOO_FAST, with the seconds until the client may send the next.
        """
        if not self.rate:
            return
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
    """Bytes of all uploads in memory, and their limit."""

    limit: int
    held: int = 0


class _Body:
    """The body of a request, counted while it arrives, for its own limit and for that of all uploads together."""

    def __init__(self, receive: Receive, limit: int, uploads: _Uploads, headers: Headers) -> None:
        self._receive = receive
        self._limit = limit
        self._uploads = uploads
        self._headers = headers
        self._held = 0
        # A request without these has no body, and a client that waits for 100 Continue has not sent it yet.
        sent = "content-length" in headers or "transfer-encoding" in headers
        self._ended = not sent or "expect" in headers

    def check_length(self) -> None:
        """Refuse a body whose Content-Length is over the limit.

        Raises:
            Problem: TOO_LARGE.
        """
        declared = self._headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """The next ASGI message.

        Raises:
            Problem: TOO_LARGE; FULL where it is the limit of all uploads.
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
        """Read and discard the rest of the body, within limits: many clients read a response only after sending all."""
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
        """Subtract the body from all uploads, at the end of the request."""
        self._uploads.held -= self._held

    def _too_large(self) -> Problem:
        return Problem(problems.TOO_LARGE, f"more than {self._limit} bytes")


def wants_token(path: str) -> bool:
    """Whether requests to a path must bring the token, where the service has one."""
    return path.startswith(("/v1/", "/api/")) or path == "/metrics"


def route_path(scope: Scope) -> str:
    """The path of a request without the root path."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _netloc(origin: str) -> str:
    """Host and port of an Origin header; empty for `null` and for what cannot be parsed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """The host of a Host header: without port, IPv6 addresses without brackets; empty where it cannot be parsed."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
