"""Captioning the photographs of a request: reading them, finding room for them, waiting no longer than allowed."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends
from starlette.requests import ClientDisconnect, Request

from captionlens.errors import OptionError, RegionError, UnreadableImage
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.request import CaptionRequest
from captionlens.server import problems, uploads
from captionlens.server.batching import Batcher, places_of
from captionlens.server.metrics import Metrics
from captionlens.server.problems import Problem
from captionlens.server.schemas import Guided, Search
from captionlens.server.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one service, which all its handlers share.

    Args:
        batcher: captions photographs.
        settings: limits.
        metrics: counts and durations.
    """

    batcher: Batcher
    settings: Settings
    metrics: Metrics

    async def caption_one(self, request: Request, query: Guided, respond: Callable[[Caption], Awaitable[T]]) -> T:
        """The response for the one photograph of a request.

        Args:
            request: whose body holds the photograph.
            query: how to caption it.
            respond: makes the response from the caption; the photograph keeps its places until it is made.

        Raises:
            Problem: the upload, the photograph or an option is refused, or there is no room or no time left.
            ClientDisconnect: the client has gone.
        """
        batcher = self.batcher
        with options_refused():
            wanted = query.request(batcher.captioner)
            async with self.in_time():
                batcher.check_room(places_of(wanted))
                photograph = await self.uploaded(uploads.read_one(request, self.settings.pixels))

                async def work() -> T:
                    return await respond(await batcher.caption(photograph, wanted))

                try:
                    with batcher.room(places_of(wanted)):
                        return await unless_gone(request, work())
                except UnreadableImage as error:
                    nameless = photograph.name == uploads.NAMELESS
                    raise Problem(problems.UNREADABLE, error.cause if nameless else str(error)) from error

    async def caption_several(self, request: Request, query: Search) -> list[Caption]:
        """Captions of the photographs of a request, in their order; one that cannot be read has `.error`.

        Args:
            request: whose body holds the photographs.
            query: how to caption them.

        Raises:
            Problem: the upload or an option is refused, or there is no room or no time left.
            ClientDisconnect: the client has gone.
        """
        batcher, settings = self.batcher, self.settings
        with options_refused():
            wanted = query.request(batcher.captioner)
            async with self.in_time():
                batcher.check_room()
                reading = uploads.read_several(request, settings.batch_photographs, settings.pixels)
                return await self.caption_all(request, await self.uploaded(reading), wanted)

    async def caption_all(
        self, request: Request, photographs: Sequence[Photograph], wanted: CaptionRequest
    ) -> list[Caption]:
        """Captions of photographs, in their order; one that cannot be read has `.error`. Call within `in_time`.

        Args:
            request: whose body has been read.
            photographs: found in it.
            wanted: how to caption them.

        Raises:
            Problem: there is no room.
            ClientDisconnect: the client has gone.
        """
        with self.batcher.room(len(photographs)):
            work = asyncio.gather(*(self._caption_or_error(photograph, wanted) for photograph in photographs))
            return await unless_gone(request, work)

    async def _caption_or_error(self, photograph: Photograph, wanted: CaptionRequest) -> Caption:
        try:
            return await self.batcher.caption(photograph, wanted)
        except UnreadableImage as error:
            return Caption("", path=photograph.name, error=error)

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Give up what is done for a request when its time is over.

        Raises:
            Problem: LATE.
        """
        timeout = self.settings.timeout
        try:
            async with asyncio.timeout(timeout):
                yield
        except TimeoutError as error:
            raise Problem(problems.LATE, f"no answer within {timeout:g} seconds", retry_after=5) from error

    async def uploaded(self, reading: Awaitable[T]) -> T:
        """What `reading` finds in the body of a request. Call within `in_time`.

        Raises:
            Problem: SLOW; or as `reading`.
        """
        most = self.settings.timeout / 2  # the other half is for waiting and captioning
        began = time.perf_counter()
        try:
            async with asyncio.timeout(most):
                return await reading
        except TimeoutError as error:
            raise Problem(problems.SLOW, f"not whole after {most:g} seconds") from error
        finally:
            self.metrics.part_seconds.labels("upload").observe(time.perf_counter() - began)


async def service_of(request: Request) -> Service:
    """The service of the application that a request came to."""
    service: Service = request.app.state.service
    return service


Serving = Annotated[Service, Depends(service_of)]  # the type of a handler's parameter `service`


@contextmanager
def options_refused() -> Iterator[None]:
    """Refuse options that do not suit the model. Other errors of the model are the service's own fault.

    Raises:
        Problem: BAD_OPTION.
    """
    try:
        yield
    except OptionError as error:
        raise Problem(problems.BAD_OPTION, str(error)) from error
    except RegionError as error:
        raise Problem(problems.BAD_OPTION, f"region: {error.cause}") from error


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled as soon as the client disconnects.

    Args:
        request: whose body has been read.
        work: for it.

    Raises:
        ClientDisconnect: the client has gone.
    """

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(leave())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        working.cancel()
        leaving.cancel()
