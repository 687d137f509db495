"""Photographs read and resized by threads for a network that takes them in order, for captioning and extraction alike.

Where the network leaves the processor to the threads, or works on few photographs, they decode ahead of it. In a long
run of a network on the processor, threads and network would slow each other down: they take turns.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import UnreadableImage
from captionlens.runtime.images import Preprocessing
from captionlens.runtime.photograph import Photograph

Pixels = NDArray[np.uint8]


def read_ahead(
    photographs: Iterable[Photograph], preprocessing: Preprocessing, *, ahead: int, threads: int
) -> Iterator[tuple[Photograph, Pixels | UnreadableImage]]:
    """Photographs in order, each with its pixels (size, size, 3) or the error that kept it from being read.

    Threads decode the next ones while the caller works: Pillow lets other threads run.

    Args:
        photographs: taken as they are needed.
        preprocessing: the size that the network takes.
        ahead: photographs that are decoded or wait at a time.
        threads: that decode.
    """
    waiting = iter(photographs)
    begun: deque[tuple[Photograph, Future[Pixels | UnreadableImage]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        while True:
            for photograph in islice(waiting, ahead - len(begun)):
                begun.append((photograph, pool.submit(_decode, preprocessing, photograph)))
            if not begun:
                return
            photograph, future = begun.popleft()
            yield photograph, future.result()


def read_by_turns(
    photographs: Iterable[Photograph], preprocessing: Preprocessing, *, ahead: int, threads: int
) -> Iterator[tuple[Photograph, Pixels | UnreadableImage]]:
    """The same as `read_ahead`, decoded `ahead` at a time while the network waits; beside it, files are only read."""
    waiting = iter(photographs)
    some = list(islice(waiting, ahead))
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
        ThreadPoolExecutor(1, thread_name_prefix="read") as reader,
    ):
        while some:
            decoded = list(zip(some, pool.map(partial(_decode, preprocessing), some), strict=True))
            some = list(islice(waiting, ahead))
            reader.submit(_cache_files, [photograph.name for photograph in some])
            yield from decoded


def _decode(preprocessing: Preprocessing, photograph: Photograph) -> Pixels | UnreadableImage:
    try:
        return photograph.pixels(preprocessing)
    except UnreadableImage as error:
        return error


def _cache_files(paths: Iterable[str]) -> None:
    """Bring files into the system's cache."""
    for path in paths:
        with suppress(OSError):  # told when it is decoded
            Path(path).read_bytes()
