"""The whole application without a socket, with a small network."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp

from captionlens.server.app import create_app
from captionlens.server.settings import Settings
from helpers.asgi import ask
from helpers.bright_network import BrightNetwork, captioner_of


@asynccontextmanager
async def running(network: BrightNetwork, **settings: Any) -> AsyncIterator[ASGIApp]:
    """The application from its start to its end."""
    app = create_app(captioner_of(network), Settings(**settings))
    async with app.router.lifespan_context(app):
        try:
            yield app
        finally:
            network.gate.set()


def run(scenario: Callable[[ASGIApp], Awaitable[None]], network: BrightNetwork | None = None, **settings: Any) -> None:
    """Run a scenario with the application."""

    async def whole() -> None:
        async with running(network or BrightNetwork(), **settings) as app:
            await scenario(app)

    asyncio.run(whole())


async def metric(app: ASGIApp, name: str) -> float:
    """A metric's value, labels and all; 0 where it has none yet."""
    lines = (await ask(app, "GET", "/metrics")).content.decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)


def base64_of(content: bytes) -> str:
    """A file in base64."""
    return base64.b64encode(content).decode()


def data_url(content: bytes) -> str:
    """A file as a data: URL."""
    return f"data:image/png;base64,{base64_of(content)}"
