"""Grids of photographs that are cropped anew in every epoch, and go through the frozen part of the backbone each time.

The feature store keeps one view of a photograph, or two. With crops there is no end of views, and the backbone runs in
every step: a job for a graphics card, or for the last epochs on a processor.
"""

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captionlens.datasets.records import Record
from captionlens.errors import UnreadableImage
from captionlens.features.backbones import Backbone
from captionlens.features.extract import Prepared
from captionlens.features.store import photograph_key
from captionlens.geometry.crops import Crop, draw_crop
from captionlens.runtime.images import read_image


@dataclass(frozen=True, slots=True)
class View:
    """A photograph, as it is or mirrored."""

    record: Record
    mirrored: bool = False


class FreshGrids:
    """A source of grid features (`training.grids.Grids`) of random crops.

    A crop depends on seed, epoch and key alone, so that a resumed run sees the same ones.

    Args:
        records: the photographs.
        frozen: the part of the backbone that is not trained.
        device: that the backbone runs on.
        dtype: that it computes in.
        smallest: part of a photograph's area, from 0 to 1; see `geometry.crops.draw_crop`.
        seed: of the crops.
        mirrored: whether there are keys of mirrored photographs, too.
    """

    def __init__(
        self,
        records: Sequence[Record],
        frozen: Backbone,
        *,
        device: str,
        dtype: torch.dtype,
        smallest: float,
        seed: int,
        mirrored: bool = False,
    ) -> None:
        self.preprocessing = frozen.preprocessing
        self.smallest = smallest
        self.seed = seed
        self.epoch = 0
        self._frozen = Prepared(frozen, device, dtype)
        self._views: Mapping[str, View] = {
            photograph_key(record, mirrored=side): View(record, side)
            for record in records
            for side in ((False, True) if mirrored else (False,))
        }
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")

    def __contains__(self, key: str) -> bool:
        return key in self._views

    def crop(self, key: str) -> Crop:
        """The crop of a photograph in this epoch, for a mirrored one in the mirrored photograph."""
        rng = np.random.default_rng([self.seed, self.epoch, zlib.crc32(key.encode("utf-8", "surrogatepass"))])
        return draw_crop(rng, self.smallest)

    def read(self, keys: Iterable[str]) -> Tensor:
        """Compute the grids (n, L, D) float16 of these photographs, in their order, on the device.

        Raises:
            UnreadableImage: a photograph cannot be read any more.
        """
        pixels = np.stack(list(self._decoders.map(self._pixels, keys)))
        return self._frozen.grids(pixels)

    def leave_out_unreadable(self) -> list[UnreadableImage]:
        """Decode every photograph once, so that no step fails; leave out those that cannot be read.

        Returns:
            The errors of these.
        """

        def look(record: Record) -> UnreadableImage | None:
            try:
                read_image(record.image, draft_size=self.preprocessing.size)
            except UnreadableImage as error:
                return error
            return None

        records = [view.record for view in self._views.values() if not view.mirrored]
        errors = {
            record.image: error
            for record, error in zip(records, self._decoders.map(look, records), strict=True)
            if error is not None
        }
        self._views = {key: view for key, view in self._views.items() if view.record.image not in errors}
        return list(errors.values())

    def _pixels(self, key: str) -> NDArray[np.uint8]:
        view, (left, top, right, bottom) = self._views[key], self.crop(key)
        image = read_image(view.record.image, draft_size=2 * self.preprocessing.size)
        if view.mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        width, height = image.size
        return self.preprocessing.resize(image, (left * width, top * height, right * width, bottom * height))
