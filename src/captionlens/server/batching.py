"""Dynamic batching of simultaneous requests: a bounded queue, and one thread that captions what waits as a batch.

While a batch computes, the photographs of the next requests are decoded and queued; the next batch takes as many of
them as wait, up to `batch_size`. No photograph waits for a batch to fill up.
"""

import asyncio
import io
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import CaptionlensError
from captionlens.runtime.caption import Caption
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.request import CaptionRequest
from captionlens.server import problems
from captionlens.server.metrics import Metrics
from captionlens.server.problems import Problem

_Result = TypeVar("_Result")

EXAMINING = 16  # places of the queue for a caption whose words are examined: two more passes through the network a word
_READERS = 2  # threads that decode photographs and draw figures
_MOST_RETRY_S = 60
log = logging.getLogger(__name__)


def places_of(request: CaptionRequest) -> int:
    """Number of places of the queue that one photograph of the request occupies."""
    return EXAMINING if request.faithfulness else 1


def _search_of(request: CaptionRequest) -> object:
    """A key that is equal for requests whose photographs may be searched together."""
    if request.decoding.temperature is not None:
        return object()  # random draws would depend on the place in the batch
    return replace(request, faithfulness=False)


@dataclass(slots=True, eq=False)
class _Job:
    photograph: Photograph
    pixels: NDArray[np.uint8]
    request: CaptionRequest
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Caption]"
    queued: float = field(default_factory=time.perf_counter)
    dropped: bool = False  # its request was cancelled

    def finish(self, caption: Caption) -> None:
        self._settle(lambda: self.future.set_result(caption))

    def fail(self, error: BaseException) -> None:
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        def if_awaited() -> None:
            if not self.future.done():
                settle()

        with suppress(RuntimeError):  # the loop has ended, and with it the request
            self.loop.call_soon_threadsafe(if_awaited)


class Batcher:
    """Captions the photographs of many requests in batches.

    Its public methods are called from the event loop's thread; `_work` and what it calls run in a thread of their own.

    Args:
        captioner: captions the batches.
        batch_size: most photographs in a batch.
        queue: number of places; `places_of` says how many a photograph occupies until its response is made.
        metrics: for durations, batch sizes and the length of the queue.
    """

    def __init__(self, captioner: Captioner, *, batch_size: int, queue: int, metrics: Metrics) -> None:
        self.captioner = captioner
        self.batch_size = batch_size
        self.queue = queue
        self.metrics = metrics
        self._taken = 0  # places
        self._seconds_each = 0.05  # that a place is worked on, a moving average
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="decode")
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()  # guarded by _changed, as are the next two
        self._patient: deque[_Job] = deque()  # to be examined when no caption waits
        self._open = True
        self._thread = threading.Thread(target=self._work, name="captioning", daemon=True)
        self._thread.start()
        metrics.queue_limit.set(queue)
        metrics.ready.set_function(lambda: float(self.ready))
        metrics.queue_places.set_function(lambda: float(self._taken))

    @property
    def ready(self) -> bool:
        """Whether new photographs are accepted."""
        return self._open and self._thread.is_alive()

    def check_room(self, places: int = 1) -> None:
        """Check that the queue has so many places, before an upload is read.

        Args:
            places: wanted; a number above that of the queue counts as the whole queue.

        Raises:
            Problem: FULL, with an estimate of the seconds until there are; STOPPING.
        """
        if not self.ready:
            raise Problem(problems.STOPPING, "the service is stopping", retry_after=5)
        if self._taken + min(places, self.queue) > self.queue:
            seconds = min(_MOST_RETRY_S, max(1, math.ceil(self._taken * self._seconds_each)))
            raise Problem(problems.FULL, f"{self._taken} of {self.queue} places are taken", retry_after=seconds)

    @contextmanager
    def room(self, places: int) -> Iterator[None]:
        """Occupy places of the queue for as long as the block lasts.

        Args:
            places: as `check_room`.

        Raises:
            Problem: as `check_room`.
        """
        self.check_room(places)
        places = min(places, self.queue)
        self._taken += places
        try:
            yield
        finally:
            self._taken -= places

    async def caption(self, photograph: Photograph, request: CaptionRequest) -> Caption:
        """The caption of a photograph. Call within `room`; a call that is cancelled while it waits is not computed.

        Args:
            photograph: to caption.
            request: options of its caption.

        Raises:
            UnreadableImage: the photograph cannot be read.
            OptionError, RegionError: see `Captioner.caption_features`.
        """
        job: _Job | None = None
        try:
            pixels = await self._read(self._decode, photograph)
            loop = asyncio.get_running_loop()
            job = _Job(photograph, pixels, request, loop, loop.create_future())
            with self._changed:
                (self._patient if request.faithfulness else self._waiting).append(job)
                self._changed.notify()
            return await job.future
        except asyncio.CancelledError:
            self.metrics.cancelled.inc()
            raise
        finally:
            if job is not None:
                job.dropped = True

    async def draw(self, caption: Caption) -> bytes:
        """The figure of a caption as PNG."""
        return await self._read(self._figure, caption)

    def close(self) -> None:
        """Refuse new photographs, caption those that wait, and end the threads. Blocks until that is done."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()
        self._readers.shutdown()

    async def _read(self, work: "Callable[..., _Result]", *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)

    def _decode(self, photograph: Photograph) -> NDArray[np.uint8]:
        with self.metrics.part_seconds.labels("decode").time():
            return photograph.pixels(self.captioner.preprocessing)

    def _figure(self, caption: Caption) -> bytes:
        with self.metrics.part_seconds.labels("figure").time():
            file = io.BytesIO()
            caption.figure().save(file, "PNG")
            return file.getvalue()

    # From here on: the thread's own.

    def _work(self) -> None:
        while batch := self._next():
            began = time.perf_counter()
            try:
                self._caption(batch)
            except Exception as error:  # an error of one batch must not end the service
                log.exception("a batch failed")
                for job in batch:
                    job.fail(error)
            each = (time.perf_counter() - began) / sum(places_of(job.request) for job in batch)
            self._seconds_each += 0.1 * (each - self._seconds_each)

    def _next(self) -> list[_Job]:
        """The next batch; blocks until there is one. Empty once the batcher is closed and nothing waits."""
        with self._changed:
            while True:
                batch: list[_Job] = []
                while self._waiting and len(batch) < self.batch_size:
                    self._take(self._waiting, batch)
                while self._patient and not batch:
                    self._take(self._patient, batch)
                if batch or not self._open:
                    return batch
                self._changed.wait()

    def _take(self, jobs: deque[_Job], batch: list[_Job]) -> None:
        job = jobs.popleft()
        if job.dropped:
            return
        self.metrics.part_seconds.labels("wait").observe(time.perf_counter() - job.queued)
        batch.append(job)

    def _caption(self, batch: list[_Job]) -> None:
        self.metrics.batch_photographs.observe(len(batch))
        with self.metrics.part_seconds.labels("encode").time():
            features = self.captioner.encode(np.stack([job.pixels for job in batch]))
        groups: dict[object, list[int]] = {}
        for row, job in enumerate(batch):
            if not job.dropped:
                groups.setdefault(_search_of(job.request), []).append(row)
        for rows in groups.values():
            self._search([batch[row] for row in rows], features[rows])

    def _search(self, jobs: list[_Job], features: NDArray[np.float32]) -> None:
        try:
            with self.metrics.part_seconds.labels("search").time():
                captions = self.captioner.caption_features(features, options=jobs[0].request)
            for job, caption in zip(jobs, captions, strict=True):
                job.finish(self._finish(caption, job))
                self.metrics.captions.inc()
        except CaptionlensError as error:  # the other groups of the batch have nothing to do with it
            for job in jobs:
                job.fail(error)

    def _finish(self, caption: Caption, job: _Job) -> Caption:
        if job.dropped or not job.request.faithfulness:
            return self.captioner.finish(caption, job.photograph, replace(job.request, faithfulness=False))
        with self.metrics.part_seconds.labels("examine").time():
            return self.captioner.finish(caption, job.photograph, job.request)
