"""Multithreaded reading and resizing of photographs, in order, for captioning and extraction.

Where the network runs on an accelerator, or on few photographs, the threads decode ahead of it. In a long run on the
processor, threads and network would slow each other down, so they take turns.
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
    """Yield photographs in order, each with its pixels (size, size, 3) or the error of reading it.

    Threads decode the next ones while the caller works, since Pillow releases the interpreter's lock.

    Args:
        photographs: consumed as they are needed.
        preprocessing: gives the network's input size.
        ahead: largest number of photographs being decoded or waiting.
        threads: number of decoding threads.
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
    """Yield the same as `read_ahead`, but decode `ahead` at a time while the network waits.

    Beside the network, files are only read into the system's cache.
    """
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
    """Read files into the system's cache."""
    for path in paths:
        with suppress(OSError):  # reported when it is decoded
            Path(path).read_bytes()
