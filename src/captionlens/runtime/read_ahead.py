"""Photographs read and decoded ahead of the network, for captioning and extraction alike."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

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
                begun.append((photograph, pool.submit(pixels_or_error, photograph, preprocessing)))
            if not begun:
                return
            photograph, future = begun.popleft()
            yield photograph, future.result()


def pixels_or_error(photograph: Photograph, preprocessing: Preprocessing) -> Pixels | UnreadableImage:
    """The pixels of a photograph (size, size, 3), or what kept it from being read."""
    try:
        return photograph.pixels(preprocessing)
    except UnreadableImage as error:
        return error
