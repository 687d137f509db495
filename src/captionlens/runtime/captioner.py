"""The captioner people use: photographs in, captions with words, probabilities and attention out."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError, UnreadableImage
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.decoding import DecodingOptions, Hypothesis, Network, decode
from captionlens.runtime.images import ImageSource, Preprocessing, describe_source
from captionlens.runtime.model_directory import ModelDirectory
from captionlens.runtime.onnx_network import OnnxNetwork
from captionlens.runtime.vocabulary import Vocabulary

PACKAGED_MODEL = Path(__file__).parent.parent / "models" / "captionlens-base"


def load(path: str | Path | None = None, *, threads: int = 0) -> "Captioner":
    """A captioner, ready to run.

    Args:
        path: a model directory; by default the one that comes with the package.
        threads: of the network; 0 lets ONNX Runtime choose one a core.

    Raises:
        ModelError: the directory is missing, incomplete, damaged, or its parts disagree.
    """
    model = ModelDirectory.open(PACKAGED_MODEL if path is None else path)
    network = OnnxNetwork(model, threads=threads)
    return Captioner(
        network,
        vocabulary=model.vocabulary,
        preprocessing=model.preprocessing,
        grid=model.grid,
        name=model.name,
        options=model.decoding,
    )


class Captioner:
    """Captions photographs with any network that offers the seam.

    Args:
        network: encodes photographs and steps from word to word.
        vocabulary: its words.
        preprocessing: how it wants its pictures.
        grid: rows and columns of its attention.
        name: of the model, given with every caption.
        options: how captions are searched for unless a call says otherwise.
    """

    def __init__(
        self,
        network: Network,
        *,
        vocabulary: Vocabulary,
        preprocessing: Preprocessing,
        grid: tuple[int, int],
        name: str,
        options: DecodingOptions,
    ) -> None:
        self.network = network
        self.vocabulary = vocabulary
        self.preprocessing = preprocessing
        self.grid = grid
        self.name = name
        self.options = options

    def caption(self, source: ImageSource, options: DecodingOptions | None = None) -> Caption:
        """The caption of one photograph.

        Args:
            source: path, bytes, file object, PIL image, or uint8 array (H, W, 3).
            options: how to search; by default the model's own.

        Raises:
            UnreadableImage: the photograph cannot be read.
        """
        source = _keep(source)
        pixels = self.preprocessing.read(source)
        return self._caption_batch([source], [pixels], options or self.options, first=0)[0]

    def caption_many(
        self, sources: Iterable[ImageSource], *, batch_size: int = 16, options: DecodingOptions | None = None
    ) -> Iterator[Caption]:
        """Captions of many photographs, lazily and in order; a bad photograph yields a Caption with `.error`.

        At most a few batches of photographs are in memory at a time.

        Raises:
            OptionError: the batch size is not positive.
        """
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, got {batch_size}")
        return self._caption_stream(iter(sources), batch_size, options or self.options)

    def caption_features(
        self, features: NDArray[Any], *, options: DecodingOptions | None = None, first: int = 0
    ) -> list[Caption]:
        """Captions of grid features (B, L, D), as a feature store keeps them."""
        return [
            self._to_caption(hypothesis)
            for hypothesis in decode(self.network, features, options or self.options, first=first)
        ]

    def _caption_stream(
        self, sources: Iterator[ImageSource], batch_size: int, options: DecodingOptions
    ) -> Iterator[Caption]:
        first = 0
        ahead: deque[tuple[ImageSource, Future[NDArray[np.uint8]]]] = deque()
        with ThreadPoolExecutor(4, thread_name_prefix="decode") as pool:
            while True:
                for source in islice(sources, 2 * batch_size - len(ahead)):
                    kept = _keep(source)
                    ahead.append((kept, pool.submit(self.preprocessing.read, kept)))
                batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
                if not batch:
                    return
                read: list[tuple[ImageSource, NDArray[np.uint8] | UnreadableImage]] = []
                for source, future in batch:
                    try:
                        read.append((source, future.result()))
                    except UnreadableImage as error:
                        read.append((source, error))
                good = [(source, pixels) for source, pixels in read if not isinstance(pixels, UnreadableImage)]
                captions = iter(
                    self._caption_batch([s for s, _ in good], [p for _, p in good], options, first) if good else ()
                )
                for source, pixels in read:
                    if isinstance(pixels, UnreadableImage):
                        yield Caption("", path=_path(source), model=self.name, error=pixels)
                    else:
                        yield next(captions)
                first += len(good)

    def _caption_batch(
        self, sources: list[ImageSource], pixels: list[NDArray[np.uint8]], options: DecodingOptions, first: int
    ) -> list[Caption]:
        features = self.network.encode(self.preprocessing.normalise(np.stack(pixels)))
        hypotheses = decode(self.network, features, options, first=first)
        return [self._to_caption(h, source) for h, source in zip(hypotheses, sources, strict=True)]

    def _to_caption(self, hypothesis: Hypothesis, source: ImageSource | None = None) -> Caption:
        tokens = self.vocabulary.decode(hypothesis.tokens)
        words = tuple(
            Word(token, float(np.exp(log_prob)))
            for token, log_prob in zip(tokens, hypothesis.log_probs, strict=True)
        )
        return Caption(
            self.vocabulary.text(tokens),
            log_prob=hypothesis.log_prob,
            words=words,
            attention=hypothesis.attention.reshape(len(words), *self.grid),
            path=None if source is None else _path(source),
            model=self.name,
            source=source,
        )


def _keep(source: ImageSource) -> ImageSource:
    """Something that can be read again for the figure: a file object is read into bytes."""
    read = getattr(source, "read", None)
    return read() if callable(read) else source


def _path(source: ImageSource) -> str:
    return describe_source(source)
