"""Running the service in uvicorn, with limits on connections and on the time a request's head may take."""

import asyncio
import math
import signal
import socket
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from captionlens.runtime.captioner import Captioner
from captionlens.server.app import create_app
from captionlens.server.settings import Settings

_HEAD_S = 10.0  # for the head of a request; half of the timeout where that is less
_IDLE_S = 30  # for a connection without a request
_HEAD_BYTES = 32 * 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm, which holds answers back for 40 ms, only where the protocol is named.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # from now on, clients wait instead of being refused
    except OSError:
        listening.close()
        raise
    return listening


def end_well_on_signals() -> None:
    """Let SIGINT and SIGTERM end the process with exit code 0, before it serves and after.

    While it serves, uvicorn handles them: it finishes the requests in progress, then raises them again for these
    handlers.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def serve(captioner: Captioner, settings: Settings, listening: socket.socket, *, proxy: str | None = None) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress by then are finished.

    Args:
        captioner: captions the photographs.
        settings: limits and access rules.
        listening: socket from `listen`.
        proxy: addresses, separated by commas, whose X-Forwarded-For and X-Forwarded-Proto are trusted.
    """
    config = uvicorn.Config(
        create_app(captioner, settings),
        http=_protocol(settings.connections, min(_HEAD_S, settings.timeout / 2)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=math.ceil(settings.timeout),
        h11_max_incomplete_event_size=_HEAD_BYTES,
        backlog=settings.connections,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _protocol(connections: int, head_s: float) -> type[asyncio.Protocol]:
    class Bounded(H11Protocol):
        """uvicorn's protocol with limits: on its own it waits without end for the head of a request."""

        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > connections:
                transport.abort()
            else:
                self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
            elif self._waiting is None:
                self._wait_for_head()

        def _wait_for_head(self) -> None:
            self._waiting = self.loop.call_later(head_s, self.transport.close)

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return Bounded
