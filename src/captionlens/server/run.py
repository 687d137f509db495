"""The service in uvicorn, with its connections bounded."""

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

_HEAD_S = 10.0  # that the head of a request may take, or half of the timeout where that is less
_IDLE_S = 30  # that a connection may stay open without a request
_HEAD_BYTES = 32 * 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the address is not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's algorithm, which holds answers back for 40 ms, only where the protocol is named.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # who asks from now on waits instead of being refused
    except OSError:
        listening.close()
        raise
    return listening


def end_well_on_signals() -> None:
    """SIGINT and SIGTERM end the process with exit code 0: before it serves, and after.

    While it serves, uvicorn takes them, finishes what has begun, and then raises them again for these handlers.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def serve(captioner: Captioner, settings: Settings, listening: socket.socket, *, proxy: str | None = None) -> None:
    """Answer until SIGINT or SIGTERM comes; what has begun by then is finished.

    Args:
        captioner: what captions.
        settings: limits and defences.
        listening: from `listen`.
        proxy: addresses, separated by commas, whose X-Forwarded-For and X-Forwarded-Proto are believed.
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
        """uvicorn's, which waits for the head of a request as long as bytes come, and for any number of them."""

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
