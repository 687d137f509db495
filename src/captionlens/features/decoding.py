"""Photographs of files, read and resized by threads for a network that takes them in order.

On a card, the network leaves the processor to the threads: they decode ahead of it. On a processor, network and threads
would slow each other down: they take turns.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import UnreadableImage
from captionlens.runtime.images import Preprocessing
from captionlens.runtime.photograph import Photograph

DECODED_AHEAD = 64  # photographs

Decoded = NDArray[np.uint8] | UnreadableImage  # the pixels (size, size, 3), or what kept them from being read


def decoded_ahead(photographs: Iterable[Photograph], preprocessing: Preprocessing, threads: int) -> Iterator[Decoded]:
    """Photographs in their order, decoded a bounded number ahead (Pillow lets other threads run)."""
    ahead: deque[Future[Decoded]] = deque()
    waiting = iter(photographs)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        while True:
            for photograph in islice(waiting, DECODED_AHEAD - len(ahead)):
                ahead.append(pool.submit(_decode, photograph, preprocessing))
            if not ahead:
                return
            yield ahead.popleft().result()


def decoded_by_turns(
    photographs: Iterable[Photograph], preprocessing: Preprocessing, threads: int
) -> Iterator[Decoded]:
    """Photographs in their order, decoded some at a time while the network waits; beside it, files are only read."""
    waiting = iter(photographs)
    some = list(islice(waiting, DECODED_AHEAD))
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
        ThreadPoolExecutor(1, thread_name_prefix="read") as reader,
    ):
        while some:
            decoded = list(pool.map(lambda photograph: _decode(photograph, preprocessing), some))
            some = list(islice(waiting, DECODED_AHEAD))
            reader.submit(_cache_files, [photograph.name for photograph in some])
            yield from decoded


def _decode(photograph: Photograph, preprocessing: Preprocessing) -> Decoded:
    try:
        return photograph.read(preprocessing)
    except UnreadableImage as error:
        return error


def _cache_files(paths: Iterable[str]) -> None:
    """Bring files into the system's cache."""
    for path in paths:
        with suppress(OSError):  # told when it is decoded
            Path(path).read_bytes()
