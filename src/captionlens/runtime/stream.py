"""Captions of many photographs, in order, batch by batch."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from captionlens.errors import UnreadableImage
from captionlens.runtime.caption import Caption
from captionlens.runtime.images import ImageSource, Preprocessing
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.read_ahead import Pixels, read_ahead
from captionlens.runtime.request import CaptionRequest

if TYPE_CHECKING:
    from captionlens.runtime.captioner import Captioner

_DECODERS = 4  # threads that read photographs ahead

Batch = list[tuple[Photograph, Pixels | UnreadableImage]]


def batches(
    sources: Iterable[ImageSource | Photograph], preprocessing: Preprocessing, batch_size: int
) -> Iterator[Batch]:
    """Yield batches of photographs, each with its pixels or its error; the next batch is read meanwhile."""
    read = read_ahead(map(Photograph.of, sources), preprocessing, ahead=batch_size, threads=_DECODERS)
    while batch := list(islice(read, batch_size)):
        yield batch


def caption_stream(
    captioner: "Captioner",
    sources: Iterable[ImageSource | Photograph],
    batch_size: int,
    request: CaptionRequest,
    numbers: Iterable[int],
) -> Iterator[Caption]:
    """Yield the caption of every photograph, or the error of reading it; see `Captioner.caption_many`."""
    waiting = iter(numbers)
    for batch in batches(sources, captioner.preprocessing, batch_size):
        captions = iter(_caption_batch(captioner, batch, request, list(islice(waiting, len(batch)))))
        for photograph, pixels in batch:
            if isinstance(pixels, UnreadableImage):
                yield _failed(captioner, photograph, pixels)
                continue
            try:
                yield captioner.finish(next(captions), photograph, request)
            except UnreadableImage as error:  # to be examined, but removed since
                yield _failed(captioner, photograph, error)


def _caption_batch(
    captioner: "Captioner", batch: Batch, request: CaptionRequest, numbers: Sequence[int]
) -> list[Caption]:
    """Caption the readable photographs of a batch."""
    good = {
        number: pixels
        for number, (_, pixels) in zip(numbers, batch, strict=True)
        if not isinstance(pixels, UnreadableImage)
    }
    if not good:
        return []
    features = captioner.encode(np.stack(list(good.values())))
    return captioner.caption_features(features, options=request, numbers=list(good))


def _failed(captioner: "Captioner", photograph: Photograph, error: UnreadableImage) -> Caption:
    return Caption("", path=photograph.name, model=captioner.name, error=error)
