"""Middleware for every request: its line in the log, metrics and id, the headers of every response, and errors 500."""

import logging
import re
import secrets
import time
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captionlens.server import dialects, problems
from captionlens.server.guard import route_path
from captionlens.server.metrics import Metrics
from captionlens.server.problems import Problem

log = logging.getLogger("captionlens.server.requests")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
REQUEST_ID = "X-Request-ID"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
GONE = 499  # nginx' status for a client that did not wait for the response


@dataclass(slots=True)
class _Exchange:
    """A request, with the state of its response."""

    scope: Scope
    began: float = field(default_factory=time.perf_counter)
    id: str = ""
    bytes: int = 0  # of the body
    status: int = GONE
    answered: bool = False

    def __post_init__(self) -> None:
        given = Headers(scope=self.scope).get(REQUEST_ID, "")
        self.id = given if _ID.fullmatch(given) else secrets.token_hex(8)


class Watch:
    """Middleware that logs and counts every request, and answers 500 to errors of the application.

    No part of a photograph, file name, caption or query is logged.

    Args:
        app: the application behind it.
        metrics: counts requests and their durations.
        routes: paths that are counted by name; all others count as one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self.app = app
        self.metrics = metrics
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope)

        async def receive_counted() -> Message:
            message = await receive()
            exchange.bytes += len(message.get("body", b""))
            return message

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.answered = True
                exchange.status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                headers[REQUEST_ID] = exchange.id
            await send(message)

        try:
            await self.app(scope, receive_counted, send_marked)
        except Exception:
            # Not by FastAPI's handler of Exception, which runs outside of all middleware: its response would have none
            # of the headers, and the metrics would count the request as GONE.
            if exchange.answered:
                raise
            log.exception("request %s failed", exchange.id)
            problem = Problem(problems.BROKEN, "the service's log says what")
            await dialects.respond(problem, route_path(scope))(scope, receive_counted, send_marked)
        finally:
            self._record(exchange)

    def _record(self, exchange: _Exchange) -> None:
        seconds = time.perf_counter() - exchange.began
        path, method, client = route_path(exchange.scope), exchange.scope["method"], exchange.scope.get("client")
        route = path if path in self.routes else "page" if path.startswith("/page/") else "other"
        self.metrics.requests.labels(route, exchange.status).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        fields = {
            "id": exchange.id,
            "client": client[0] if client else None,
            "method": method,
            "route": route,
            "status": exchange.status,
            "ms": round(1000 * seconds, 1),
            "bytes": exchange.bytes,
        }
        log.info("%s %s %d", method, route, exchange.status, extra={"fields": fields})
