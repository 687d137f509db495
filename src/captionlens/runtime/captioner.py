"""The captioner people use: photographs in, captions with words, probabilities and attention out."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import CaptionlensError, OptionError, UnreadableImage
from captionlens.geometry.cells import attended_cells, blank
from captionlens.geometry.region import Region
from captionlens.runtime.caption import Alternative, Caption, Word
from captionlens.runtime.confidence import Calibration
from captionlens.runtime.decoding import DecodingOptions, Hypothesis, Network, decode, force
from captionlens.runtime.faithfulness import Faithfulness
from captionlens.runtime.images import ImageSource, Preprocessing
from captionlens.runtime.model_directory import ModelDirectory
from captionlens.runtime.onnx_network import OnnxNetwork
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.vocabulary import PAD, SPECIALS, START, UNK, Vocabulary, split_words
from captionlens.runtime.within import Within

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

    def caption(
        self,
        source: ImageSource,
        options: DecodingOptions | None = None,
        *,
        prefix: str = "",
        region: Region | None = None,
        alternatives: int = 0,
    ) -> Caption:
        """The caption of one photograph.

        Args:
            source: path, bytes, file object, PIL image, or uint8 array (H, W, 3).
            options: how to search; by default the model's own.
            prefix, region, alternatives: see `caption_features`.

        Raises:
            UnreadableImage: the photograph cannot be read.
            OptionError: see `caption_features`.
        """
        photograph = Photograph(source)
        features = self.encode(photograph.read(self.preprocessing)[None])
        caption = self.caption_features(
            features, options=options, prefix=prefix, region=region, alternatives=alternatives
        )[0]
        return photograph.name_on(caption)

    def encode(self, pixels: NDArray[np.uint8]) -> Any:
        """Grid features (B, L, D) of photographs (B, size, size, 3), as `preprocessing.read` gives them."""
        return self.network.encode(self.preprocessing.normalise(pixels))

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
        photograph = Photograph(source)
        features = self.encode(photograph.read(self.preprocessing)[None])
        numbers = [self.vocabulary.encode(text) for text in captions]
        tokens = np.full((1, len(numbers), max(map(len, numbers))), PAD, np.int64)
        for row, caption in enumerate(numbers):
            tokens[0, row, : len(caption)] = caption
        log_probs, attention = (array[0] for array in self._force(self.network, features, tokens))
        results = []
        for row, text in enumerate(captions):
            said = split_words(text)
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

    def examine(self, caption: Caption, *, region: Region | None = None) -> Caption:
        """The same caption, its words with what blanking parts of the photograph does to them.

        For every word the part of the photograph that it looked at most is blanked out, and for comparison as large a
        part that it looked at least, see `attention.faithfulness`; each time the network is asked for the word's
        probability after the same words. That is two passes through the whole network for every word.

        Args:
            caption: one of this captioner's, of a photograph. One with `.error` comes back as it is.
            region: what it was made to look at.

        Raises:
            CaptionlensError: the caption does not know its photograph.
            UnreadableImage: the photograph has gone since.
        """
        if caption.error is not None or not caption.words:
            return caption
        if caption.source is None:
            raise CaptionlensError("this caption does not know its photograph")
        pixels = Photograph(caption.source).read(self.preprocessing)
        # Words that looked alike blank the same cells: every picture is encoded once.
        pairs = [attended_cells(map_) for map_ in caption.attention]
        blanks = {cells.tobytes(): cells for pair in pairs for cells in pair}
        log_probs = dict(zip(blanks, self._forced_without(pixels, list(blanks.values()), caption, region), strict=True))
        words = []
        for number, (word, pair) in enumerate(zip(caption.words, pairs, strict=True)):
            blanked, control = (float(np.exp(log_probs[cells.tobytes()][number])) for cells in pair)
            words.append(replace(word, faithfulness=Faithfulness(word.probability, blanked, control)))
        return replace(caption, words=tuple(words))

    def _forced_without(
        self, pixels: NDArray[np.uint8], blanks: list[NDArray[np.bool_]], caption: Caption, region: Region | None
    ) -> NDArray[np.float32]:
        """Log-probabilities (blanks, words) of a caption's words, with these cells of its photograph blanked out."""
        tokens = np.array(self.vocabulary.encode(" ".join(word.text for word in caption.words))[:-1])  # without <end>
        parts = []
        network = self._looking_at(region)
        for first in range(0, len(blanks), _BLANKED_AT_ONCE):
            pictures = np.stack([blank(pixels, cells) for cells in blanks[first : first + _BLANKED_AT_ONCE]])
            repeated = np.broadcast_to(tokens, (len(pictures), 1, len(tokens)))
            parts.append(self._force(network, self.encode(pictures), repeated)[0][:, 0])
        return np.concatenate(parts)

    def _force(
        self, network: Network, features: Any, tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-probabilities (B, K, T - 1) and attention (B, K, T - 1, L) of captions (B, K, T), all but `<start>`."""
        predicted, maps = zip(*force(network, features, tokens[:, :, :-1]), strict=True)
        log_probs = np.take_along_axis(np.stack(predicted, 2), tokens[:, :, 1:, None], -1)[..., 0]
        return log_probs, np.stack(maps, 2)

    def caption_features(
        self,
        features: NDArray[Any],
        *,
        options: DecodingOptions | None = None,
        first: int = 0,
        prefix: str = "",
        region: Region | None = None,
        alternatives: int = 0,
    ) -> list[Caption]:
        """Captions of grid features (B, L, D), as `encode` gives them and a feature store keeps them.

        Args:
            features: of the photographs.
            options: how to search; by default the model's own.
            first: number of the first photograph among all, see `decode`.
            prefix: words that every caption begins with.
            region: the part of the photographs that the captioner is made to look at; by default all.
            alternatives: how many other words to give for every word.

        Raises:
            OptionError: the prefix is too long or has a word that the model does not know, or `alternatives` is
                negative.
        """
        if alternatives < 0:
            raise OptionError(f"alternatives must be at least 0, got {alternatives}")
        begun = self._numbers(prefix)
        network = self._looking_at(region)
        hypotheses = decode(network, features, options or self.options, first=first, prefix=begun)
        novelty = self._novelty(features)
        captions = [self._to_caption(h, strange) for h, strange in zip(hypotheses, novelty, strict=True)]
        return self._with_alternatives(network, features, hypotheses, captions, alternatives)

    def _numbers(self, prefix: str) -> list[int]:
        numbers = self.vocabulary.encode(prefix)[1:-1]
        for word, number in zip(split_words(prefix), numbers, strict=True):
            if number == UNK:
                raise OptionError(f"prefix: the model does not know the word {word!r}")
        return numbers

    def _looking_at(self, region: Region | None) -> Network:
        if region is None:
            return self.network
        rows, columns = self.grid
        return Within(self.network, region.places(rows, columns), rows * columns)

    def _with_alternatives(
        self, network: Network, features: Any, hypotheses: Sequence[Hypothesis], captions: list[Caption], count: int
    ) -> list[Caption]:
        """The captions, every word with the `count` likeliest other words in its place."""
        longest = max((len(hypothesis.tokens) for hypothesis in hypotheses), default=0)
        if count == 0 or longest == 0:
            return captions
        said = np.full((len(hypotheses), 1, longest + 1), PAD, np.int64)  # from <start> on
        said[:, :, 0] = START
        for row, hypothesis in enumerate(hypotheses):
            said[row, 0, 1 : len(hypothesis.tokens) + 1] = hypothesis.tokens
        found: list[list[tuple[Alternative, ...]]] = [[] for _ in hypotheses]
        for time, (log_probs, _) in enumerate(force(network, features, said[:, :, :-1])):
            scores = log_probs[:, 0].copy()  # (B, V)
            scores[:, : len(SPECIALS)] = -np.inf  # the end included: only words can stand for words
            scores[np.arange(len(scores)), said[:, 0, time + 1]] = -np.inf
            best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
            for row, numbers in enumerate(best):
                found[row].append(
                    tuple(
                        Alternative(self.vocabulary.tokens[number], float(np.exp(scores[row, number])))
                        for number in numbers
                        if np.isfinite(scores[row, number])
                    )
                )
        return [
            replace(
                caption,
                words=tuple(
                    replace(word, alternatives=others) for word, others in zip(caption.words, of_words, strict=False)
                ),
            )
            for caption, of_words in zip(captions, found, strict=True)
        ]

    def encode_many(
        self, sources: Iterable[ImageSource], *, batch_size: int = 16
    ) -> Iterator[NDArray[np.float32] | UnreadableImage]:
        """Grid features (L, D) of many photographs, lazily and in order, or the error that kept one from being read."""
        for batch in self._read_ahead(iter(sources), batch_size):
            good = [pixels for _, pixels in batch if not isinstance(pixels, UnreadableImage)]
            features = iter(self.encode(np.stack(good)) if good else ())
            for _, pixels in batch:
                yield pixels if isinstance(pixels, UnreadableImage) else next(features)

    def _caption_stream(
        self, sources: Iterator[ImageSource], batch_size: int, options: DecodingOptions
    ) -> Iterator[Caption]:
        first = 0
        for batch in self._read_ahead(sources, batch_size):
            good = [pixels for _, pixels in batch if not isinstance(pixels, UnreadableImage)]
            captions = iter(
                self.caption_features(self.encode(np.stack(good)), options=options, first=first) if good else ()
            )
            for photograph, pixels in batch:
                if isinstance(pixels, UnreadableImage):
                    yield Caption("", path=photograph.name, model=self.name, error=pixels)
                else:
                    yield photograph.name_on(next(captions))
            first += len(good)

    def _read_ahead(
        self, sources: Iterator[ImageSource], batch_size: int
    ) -> Iterator[list[tuple[Photograph, NDArray[np.uint8] | UnreadableImage]]]:
        """Photographs batch by batch, each with its pixels or its error."""
        ahead: deque[tuple[Photograph, Future[NDArray[np.uint8]]]] = deque()
        with ThreadPoolExecutor(4, thread_name_prefix="decode") as pool:
            while True:
                for source in islice(sources, 2 * batch_size - len(ahead)):
                    photograph = Photograph(source)
                    ahead.append((photograph, pool.submit(photograph.read, self.preprocessing)))
                batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
                if not batch:
                    return
                yield [(photograph, _result(future)) for photograph, future in batch]

    def _novelty(self, features: Any) -> Sequence[float]:
        """Of photographs with grid features (B, L, D)."""
        if self.calibration is None:
            return [0.0] * len(features)
        novelty: list[float] = self.calibration.novelty(np.asarray(features)).tolist()
        return novelty

    def _to_caption(self, hypothesis: Hypothesis, novelty: float) -> Caption:
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
            model=self.name,
            confidence=of_caption,
        )


def _result(future: Future[NDArray[np.uint8]]) -> NDArray[np.uint8] | UnreadableImage:
    try:
        return future.result()
    except UnreadableImage as error:
        return error
