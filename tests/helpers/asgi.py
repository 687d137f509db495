"""Requests to an ASGI application, without a socket."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message

from helpers.server import Answer


async def ask(
    app: ASGIApp,
    method: str,
    path: str,
    body: list[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    client: str = "192.0.2.1",
    root_path: str = "",
    stalls: bool = False,
    gone: asyncio.Event | None = None,
) -> Answer:
    """The application's response to one request.

    Args:
        app: to ask.
        method: of the request.
        path: with its query.
        body: the parts in which it arrives; those that the application reads are taken out of the list.
        headers: besides Host and Content-Length, which are made unless they are among them.
        client: address of the client.
        root_path: path below which a proxy offers the application.
        stalls: whether the body never becomes whole.
        gone: is set when the client disconnects.
    """
    path, _, query = path.partition("?")
    given = {"host": "localhost"} | {name.lower(): value for name, value in (headers or {}).items()}
    left = [] if body is None else body
    if body is not None and "transfer-encoding" not in given:
        given.setdefault("content-length", str(sum(map(len, left)) + stalls))
    sent: list[Message] = []
    whole = False

    async def receive() -> Message:
        nonlocal whole
        if left or not (whole or stalls):
            part = left.pop(0) if left else b""
            whole = not (left or stalls)
            return {"type": "http.request", "body": part, "more_body": not whole}
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": root_path + path,
        "raw_path": (root_path + path).encode(),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": (client, 50000),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    start, *parts = sent
    return Answer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(part.get("body", b"") for part in parts),
    )
