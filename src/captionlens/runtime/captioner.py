"""The captioner people use: photographs in, captions with words, probabilities and attention out."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.attention.faithfulness import Faithfulness, attended_cells, blank
from captionlens.errors import CaptionlensError, OptionError, UnreadableImage
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.confidence import Calibration
from captionlens.runtime.decoding import DecodingOptions, Hypothesis, Network, decode, force
from captionlens.runtime.images import ImageSource, Preprocessing, describe_source
from captionlens.runtime.model_directory import ModelDirectory
from captionlens.runtime.onnx_network import OnnxNetwork
from captionlens.runtime.vocabulary import PAD, Vocabulary, words

PACKAGED_MODEL = Path(__file__).parent.parent / "models" / "captionlens-base"
_BLANKED_AT_ONCE = 16  # pictures of one photograph in a batch


def load(path: str | Path | None = None, *, threads: int = 0, device: str = "cpu") -> "Captioner":
    """A captioner, ready to run.

    Args:
        path: a model directory; by default the one that comes with the package.
        threads: of the network; 0 lets ONNX Runtime choose one a core.
        device: "cpu", or where ONNX Runtime has a provider for it, "cuda", "openvino" or "coreml".

    Raises:
        OptionError: the device is not known, or the number of threads negative.
        DeviceError: the device is not there.
        ModelError: the directory is missing, incomplete, damaged, or its parts disagree.
    """
    model = ModelDirectory.open(PACKAGED_MODEL if path is None else path)
    return Captioner.of(model, OnnxNetwork(model, threads=threads, device=device))


class Captioner:
    """Captions photographs with any network that offers the seam.

    Args:
        network: encodes photographs and steps from word to word.
        vocabulary: its words.
        preprocessing: how it wants its pictures.
        grid: rows and columns of its attention.
        name: of the model, given with every caption.
        options: how captions are searched for unless a call says otherwise.
        calibration: of its confidence; without one, captions have none.
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
        calibration: Calibration | None = None,
    ) -> None:
        self.network = network
        self.vocabulary = vocabulary
        self.preprocessing = preprocessing
        self.grid = grid
        self.name = name
        self.options = options
        self.calibration = calibration

    @classmethod
    def of(cls, model: ModelDirectory, network: Network) -> "Captioner":
        """The captioner of a model directory, with a network that computes what its graphs do."""
        return cls(
            network,
            vocabulary=model.vocabulary,
            preprocessing=model.preprocessing,
            grid=model.grid,
            name=model.name,
            options=model.decoding,
            calibration=model.calibration,
        )

    def caption(self, source: ImageSource, options: DecodingOptions | None = None) -> Caption:
        """The caption of one photograph.

        Args:
            source: path, bytes, file object, PIL image, or uint8 array (H, W, 3).
            options: how to search; by default the model's own.

        Raises:
            UnreadableImage: the photograph cannot be read.
        """
        photograph = _Photograph(source)
        pixels = photograph.read(self.preprocessing)
        return self._caption_batch([photograph], [pixels], options or self.options, first=0)[0]

    def caption_many(
        self, sources: Iterable[ImageSource], *, batch_size: int = 16, options: DecodingOptions | None = None
    ) -> Iterator[Caption]:
        """Captions of many photographs, lazily and in order; a bad photograph yields a Caption with `.error`.

        At most two batches of photographs are read ahead of the caption that is asked for.

        Raises:
            OptionError: the batch size is not positive, or `sources` is a single photograph.
        """
        if isinstance(sources, str | bytes):
            raise OptionError("sources must be several photographs; caption() takes a single one")
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, got {batch_size}")
        return self._caption_stream(iter(sources), batch_size, options or self.options)

    def force(self, source: ImageSource, captions: Sequence[str]) -> list[Caption]:
        """What the network thinks of captions that are given: the probability of each word, and where it looked for it.

        Args:
            source: the photograph, as `caption` takes it.
            captions: texts, cut into words as the vocabulary does it. The probability of an unknown word is that of
                `<unk>`.

        Raises:
            UnreadableImage: the photograph cannot be read.
            OptionError: `captions` is a single text.
        """
        if isinstance(captions, str):
            raise OptionError("captions must be several texts; put a single one into a list")
        if not captions:
            return []
        photograph = _Photograph(source)
        features = self.network.encode(self.preprocessing.normalise(photograph.read(self.preprocessing)[None]))
        numbers = [self.vocabulary.encode(text) for text in captions]
        tokens = np.full((1, len(numbers), max(map(len, numbers))), PAD, np.int64)
        for row, caption in enumerate(numbers):
            tokens[0, row, : len(caption)] = caption
        log_probs, attention = (array[0] for array in self._force(features, tokens))
        results = []
        for row, text in enumerate(captions):
            said = words(text)
            probabilities = np.exp(log_probs[row, : len(said)])
            results.append(
                Caption(
                    self.vocabulary.text(said),
                    log_prob=float(log_probs[row, : len(said) + 1].sum()),  # its end included
                    words=tuple(Word(word, float(p)) for word, p in zip(said, probabilities, strict=True)),
                    attention=attention[row, : len(said)].reshape(len(said), *self.grid),
                    path=photograph.name,
                    model=self.name,
                    source=photograph.source,
                )
            )
        return results

    def examine(self, caption: Caption) -> Caption:
        """The same caption, its words with what blanking parts of the photograph does to them.

        For every word the part of the photograph that it looked at most is blanked out, and for comparison as large a
        part that it looked at least, see `attention.faithfulness`; each time the network is asked for the word's
        probability after the same words. That is two passes through the whole network for every word.

        Args:
            caption: one of this captioner's, of a photograph. One with `.error` comes back as it is.

        Raises:
            CaptionlensError: the caption does not know its photograph.
            UnreadableImage: the photograph has gone since.
        """
        if caption.error is not None or not caption.words:
            return caption
        if caption.source is None:
            raise CaptionlensError("this caption does not know its photograph")
        pixels = _Photograph(caption.source).read(self.preprocessing)
        # Words that looked alike blank the same cells: every picture is encoded once.
        pairs = [attended_cells(map_) for map_ in caption.attention]
        blanks = {cells.tobytes(): cells for pair in pairs for cells in pair}
        log_probs = dict(zip(blanks, self._forced_without(pixels, list(blanks.values()), caption), strict=True))
        words = []
        for number, (word, pair) in enumerate(zip(caption.words, pairs, strict=True)):
            blanked, control = (float(np.exp(log_probs[cells.tobytes()][number])) for cells in pair)
            words.append(replace(word, faithfulness=Faithfulness(word.probability, blanked, control)))
        return replace(caption, words=tuple(words))

    def _forced_without(
        self, pixels: NDArray[np.uint8], blanks: list[NDArray[np.bool_]], caption: Caption
    ) -> NDArray[np.float32]:
        """Log-probabilities (blanks, words) of a caption's words, with these cells of its photograph blanked out."""
        tokens = np.array(self.vocabulary.encode(" ".join(word.text for word in caption.words))[:-1])  # without <end>
        parts = []
        for first in range(0, len(blanks), _BLANKED_AT_ONCE):
            pictures = np.stack([blank(pixels, cells) for cells in blanks[first : first + _BLANKED_AT_ONCE]])
            features = self.network.encode(self.preprocessing.normalise(pictures))
            repeated = np.broadcast_to(tokens, (len(pictures), 1, len(tokens)))
            parts.append(self._force(features, repeated)[0][:, 0])
        return np.concatenate(parts)

    def _force(self, features: Any, tokens: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-probabilities (B, K, T - 1) and attention (B, K, T - 1, L) of captions (B, K, T), all but `<start>`."""
        predicted, maps = zip(*force(self.network, features, tokens[:, :, :-1]), strict=True)
        log_probs = np.take_along_axis(np.stack(predicted, 2), tokens[:, :, 1:, None], -1)[..., 0]
        return log_probs, np.stack(maps, 2)

    def caption_features(
        self, features: NDArray[Any], *, options: DecodingOptions | None = None, first: int = 0
    ) -> list[Caption]:
        """Captions of grid features (B, L, D), as a feature store keeps them."""
        hypotheses = decode(self.network, features, options or self.options, first=first)
        novelty = self._novelty(features)
        return [self._to_caption(h, None, strange) for h, strange in zip(hypotheses, novelty, strict=True)]

    def encode_many(
        self, sources: Iterable[ImageSource], *, batch_size: int = 16
    ) -> Iterator[NDArray[np.float32] | UnreadableImage]:
        """Grid features (L, D) of many photographs, lazily and in order, or the error that kept one from being read."""
        for batch in self._read_ahead(iter(sources), batch_size):
            good = [pixels for _, pixels in batch if not isinstance(pixels, UnreadableImage)]
            features = iter(self.network.encode(self.preprocessing.normalise(np.stack(good))) if good else ())
            for _, pixels in batch:
                yield pixels if isinstance(pixels, UnreadableImage) else next(features)

    def _caption_stream(
        self, sources: Iterator[ImageSource], batch_size: int, options: DecodingOptions
    ) -> Iterator[Caption]:
        first = 0
        for batch in self._read_ahead(sources, batch_size):
            good = [(photo, pixels) for photo, pixels in batch if not isinstance(pixels, UnreadableImage)]
            captions = iter(
                self._caption_batch([photo for photo, _ in good], [p for _, p in good], options, first) if good else ()
            )
            for photograph, pixels in batch:
                if isinstance(pixels, UnreadableImage):
                    yield Caption("", path=photograph.name, model=self.name, error=pixels)
                else:
                    yield next(captions)
            first += len(good)

    def _read_ahead(
        self, sources: Iterator[ImageSource], batch_size: int
    ) -> Iterator[list[tuple["_Photograph", NDArray[np.uint8] | UnreadableImage]]]:
        """Photographs batch by batch, each with its pixels or its error."""
        ahead: deque[tuple[_Photograph, Future[NDArray[np.uint8]]]] = deque()
        with ThreadPoolExecutor(4, thread_name_prefix="decode") as pool:
            while True:
                for source in islice(sources, 2 * batch_size - len(ahead)):
                    photograph = _Photograph(source)
                    ahead.append((photograph, pool.submit(photograph.read, self.preprocessing)))
                batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
                if not batch:
                    return
                yield [(photograph, _result(future)) for photograph, future in batch]

    def _caption_batch(
        self,
        photographs: list["_Photograph"],
        pixels: list[NDArray[np.uint8]],
        options: DecodingOptions,
        first: int,
    ) -> list[Caption]:
        features = self.network.encode(self.preprocessing.normalise(np.stack(pixels)))
        hypotheses = decode(self.network, features, options, first=first)
        novelty = self._novelty(features)
        return [
            self._to_caption(h, photo, strange)
            for h, strange, photo in zip(hypotheses, novelty, photographs, strict=True)
        ]

    def _novelty(self, features: Any) -> Sequence[float]:
        """Of photographs with grid features (B, L, D)."""
        if self.calibration is None:
            return [0.0] * len(features)
        novelty: list[float] = self.calibration.novelty(np.asarray(features)).tolist()
        return novelty

    def _to_caption(self, hypothesis: Hypothesis, photograph: "_Photograph | None", novelty: float) -> Caption:
        tokens = self.vocabulary.decode(hypothesis.tokens)
        of_words: Sequence[float | None] = [None] * len(tokens)
        of_caption: float | None = None
        if self.calibration is not None:
            of_words, of_caption = self.calibration.confidence(hypothesis.tokens, hypothesis.log_probs, novelty)
        words = tuple(
            Word(token, float(np.exp(log_prob)), confidence)
            for token, log_prob, confidence in zip(tokens, hypothesis.log_probs, of_words, strict=True)
        )
        return Caption(
            self.vocabulary.text(tokens),
            log_prob=hypothesis.log_prob,
            words=words,
            attention=hypothesis.attention.reshape(len(words), *self.grid),
            path=None if photograph is None else photograph.name,
            model=self.name,
            confidence=of_caption,
            source=None if photograph is None else photograph.source,
        )


class _Photograph:
    """A photograph and its name. A file object is read into bytes at once: the figure reads them again."""

    def __init__(self, source: ImageSource) -> None:
        self.name = describe_source(source)
        self.source = source
        self._error: UnreadableImage | None = None
        if callable(getattr(source, "read", None)):
            try:
                self.source = _content(source)
            except (OSError, ValueError) as error:
                self._error = UnreadableImage(self.name, str(error))

    def read(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The pixels (size, size, 3).

        Raises:
            UnreadableImage: the photograph cannot be read.
        """
        if self._error is not None:
            raise self._error
        try:
            return preprocessing.read(self.source)
        except UnreadableImage as error:
            # Of bytes that came from a file object, only this class knows the name.
            raise UnreadableImage(self.name, error.cause) from error


def _content(file: Any) -> bytes:
    """What is in a file object, from its beginning where it can be rewound, as Pillow reads it."""
    with suppress(AttributeError, OSError):
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise ValueError("is open as text, not in binary")
    return content


def _result(future: Future[NDArray[np.uint8]]) -> NDArray[np.uint8] | UnreadableImage:
    try:
        return future.result()
    except UnreadableImage as error:
        return error
