"""The `Captioner`: photographs to captions with words, probabilities and attention maps."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import OptionError, UnreadableImage
from captionlens.geometry.region import Region
from captionlens.runtime import Unsure
from captionlens.runtime.alternatives import likeliest_others
from captionlens.runtime.caption import Alternative, Caption, Word
from captionlens.runtime.confidence import Calibration
from captionlens.runtime.decoding import DecodingOptions, Hypothesis, Network, decode
from captionlens.runtime.examination import examine
from captionlens.runtime.images import ImageSource, Preprocessing
from captionlens.runtime.model_directory import PACKAGED_MODEL, ModelDirectory
from captionlens.runtime.nouns import Nouns
from captionlens.runtime.onnx_network import OnnxNetwork
from captionlens.runtime.photograph import Photograph
from captionlens.runtime.read_ahead import Pixels
from captionlens.runtime.region_network import RegionNetwork
from captionlens.runtime.request import CaptionRequest, prefix_numbers
from captionlens.runtime.stream import batches, caption_stream
from captionlens.runtime.teacher_forcing import forced_captions
from captionlens.runtime.vocabulary import Vocabulary


def load(path: str | Path | None = None, *, threads: int = 0, device: str = "cpu") -> "Captioner":
    """Load a captioner.

    Args:
        path: a model directory; by default the one in the package.
        threads: of the network; 0 lets ONNX Runtime choose one per core.
        device: "cpu", or "cuda", "openvino" or "coreml" where ONNX Runtime has a provider for it.

    Raises:
        OptionError: the device is unknown, or the number of threads negative.
        DeviceError: the device is not available.
        ModelError: the directory is missing, incomplete or damaged, or its parts disagree.
    """
    model = ModelDirectory.open(PACKAGED_MODEL if path is None else path)
    return Captioner.of(model, OnnxNetwork(model, threads=threads, device=device))


class Captioner:
    """Captions photographs with any network that implements `runtime.decoding.Network`.

    Args:
        network: encodes photographs and predicts word after word.
        vocabulary: of the network.
        preprocessing: of its input.
        grid: rows and columns of its attention maps.
        name: of the model, part of every caption.
        options: default decoding options of all calls.
        calibration: of the confidence; without one, captions have no confidence.
        folder: its model directory; None where it was not read from one.
        nouns: of the vocabulary; without them, captions have no keywords.
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
        folder: Path | None = None,
        nouns: Nouns | None = None,
    ) -> None:
        self.network = network
        self.vocabulary = vocabulary
        self.preprocessing = preprocessing
        self.grid = grid
        self.name = name
        self.options = options
        self.calibration = calibration
        self.folder = folder
        self.nouns = nouns

    @classmethod
    def of(cls, model: ModelDirectory, network: Network) -> "Captioner":
        """Make the captioner of a model directory, with a network equivalent to its graphs."""
        return cls(
            network,
            vocabulary=model.vocabulary,
            preprocessing=model.preprocessing,
            grid=model.grid,
            name=model.name,
            options=model.decoding,
            calibration=model.calibration,
            folder=model.folder,
            nouns=model.nouns,
        )

    def __repr__(self) -> str:
        rows, columns = self.grid
        return f"Captioner({self.name!r}, {len(self.vocabulary):,} words, grid {rows} x {columns})"

    def request(
        self,
        *,
        prefix: str = "",
        region: Region | None = None,
        alternatives: int = 0,
        faithfulness: bool = False,
        min_confidence: float | None = None,
        unsure: Unsure = "mark",
        keywords: int = 0,
        **decoding: Any,
    ) -> CaptionRequest:
        """Make a request: the model's default decoding options, with the user's changes.

        Args:
            prefix, region, alternatives, faithfulness, min_confidence, unsure, keywords: see `CaptionRequest`.
            decoding: fields of `DecodingOptions`; None stands for the model's default.

        Raises:
            OptionError: a value makes no sense, a word of the prefix is not in the vocabulary, or keywords are
                requested of a model without nouns.
            TypeError: there is no such field.
        """
        prefix_numbers(prefix, self.vocabulary)  # refuses an unknown word before any work
        changes = {name: value for name, value in decoding.items() if value is not None}
        options = replace(self.options, **changes)
        return self._request(
            CaptionRequest(options, prefix, region, alternatives, faithfulness, min_confidence, unsure, keywords)
        )

    def caption(
        self, source: ImageSource | Photograph, options: CaptionRequest | DecodingOptions | None = None
    ) -> Caption:
        """Caption one photograph.

        Args:
            source: path, bytes, file object, PIL image, uint8 array (H, W, 3), or a `Photograph`.
            options: decoding options, or a whole request as `request` makes it; by default the model's options.

        Raises:
            UnreadableImage: the photograph cannot be read.
            OptionError: see `caption_features`.
        """
        photograph = Photograph.of(source)
        request = self._request(options)
        features = self.encode(photograph.pixels(self.preprocessing)[None])
        return self.finish(self.caption_features(features, options=request)[0], photograph, request)

    def caption_many(
        self,
        sources: Iterable[ImageSource | Photograph],
        *,
        batch_size: int = 16,
        options: CaptionRequest | DecodingOptions | None = None,
        numbers: Iterable[int] | None = None,
    ) -> Iterator[Caption]:
        """Caption many photographs, lazily and in order; an unreadable photograph yields a Caption with `.error`.

        At most two batches of photographs are read ahead of the next caption.

        Args:
            sources: each as in `caption`.
            batch_size: photographs that are decoded together.
            options: as in `caption`.
            numbers: of the photographs in a longer sequence of which these are a part, for samples; by default from 0.

        Raises:
            OptionError: the batch size is not positive, `sources` is a single photograph, or see `caption_features`.
        """
        if isinstance(sources, str | bytes):
            raise OptionError("sources must be several photographs; caption() takes a single one")
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1, got {batch_size}")
        request = self._request(options)
        return caption_stream(self, sources, batch_size, request, count() if numbers is None else numbers)

    def encode(self, pixels: Pixels) -> Any:
        """Encode photographs (B, size, size, 3), see `Photograph.pixels`, as grid features (B, L, D)."""
        return self.network.encode(self.preprocessing.normalise(pixels))

    def encode_many(
        self, sources: Iterable[ImageSource | Photograph], *, batch_size: int = 16
    ) -> Iterator[NDArray[np.float32] | UnreadableImage]:
        """Encode many photographs, lazily and in order: each as grid features (L, D), or the error of reading it."""
        for batch in batches(sources, self.preprocessing, batch_size):
            good = [pixels for _, pixels in batch if not isinstance(pixels, UnreadableImage)]
            features = iter(self.encode(np.stack(good)) if good else ())
            for _, pixels in batch:
                yield pixels if isinstance(pixels, UnreadableImage) else next(features)

    def caption_features(
        self,
        features: NDArray[Any],
        *,
        options: CaptionRequest | DecodingOptions | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Caption]:
        """Caption grid features (B, L, D), as `encode` or a feature store gives them.

        The captions have no photograph and no faithfulness yet; `finish` adds both.

        Args:
            features: of the photographs.
            options: as in `caption`.
            numbers: of the photographs in the whole sequence, see `decode`.

        Raises:
            OptionError: the prefix is too long, one of its words is not in the vocabulary, or keywords are requested of
                a model without nouns.
            RegionError: the model cannot restrict its attention to a region.
        """
        if len(features) == 1:
            # Products of one row are summed in another order than those of several, so the last digits would depend on
            # whether a photograph is captioned alone.
            twice = None if numbers is None else [*numbers] * 2
            return self.caption_features(features[[0, 0]], options=options, numbers=twice)[:1]
        request = self._request(options)
        network = self._network_of(request.region)
        prefix = prefix_numbers(request.prefix, self.vocabulary)
        hypotheses = decode(network, features, request.decoding, numbers=numbers, prefix=prefix)
        others = likeliest_others(network, features, hypotheses, self.vocabulary, request.alternatives)
        novelty: Sequence[float] = [0.0] * len(hypotheses)
        if self.calibration is not None and hypotheses:
            novelty = self.calibration.novelty(np.asarray(features)).tolist()
        return [
            self._to_caption(hypothesis, of_words, strange, request)
            for hypothesis, of_words, strange in zip(hypotheses, others, novelty, strict=True)
        ]

    def finish(self, caption: Caption, photograph: Photograph, request: CaptionRequest) -> Caption:
        """Add its photograph to a caption of `caption_features`, and the faithfulness if requested.

        Raises:
            UnreadableImage: faithfulness is requested, and the photograph has been removed since.
        """
        caption = replace(caption, path=photograph.name, photograph=photograph)
        try:
            return self.examine(caption) if request.faithfulness and not caption.withheld else caption
        finally:
            photograph.release()

    def force(self, source: ImageSource | Photograph, captions: Sequence[str]) -> list[Caption]:
        """Apply teacher forcing to given captions, for the probability and the attention map of each word.

        Args:
            source: the photograph, as in `caption`.
            captions: texts, tokenised by `split_words`. The probability of an unknown word is that of `<unk>`.

        Raises:
            UnreadableImage: the photograph cannot be read.
            OptionError: `captions` is a single text.
        """
        if isinstance(captions, str):
            raise OptionError("captions must be several texts; put a single one into a list")
        return forced_captions(self, Photograph.of(source), captions) if captions else []

    def examine(self, caption: Caption) -> Caption:
        """Add to each word of a caption its faithfulness: the effect of blanking what it attended to.

        For every word, the cells it attended to most are blanked out in the photograph, and as a control as many of
        those it attended to least, see `runtime.faithfulness`. Each time the network recomputes the word's probability
        given the same previous words. That takes two passes through the whole network per word.

        Args:
            caption: one of this captioner's, of a photograph. One with `.error` is returned unchanged.

        Raises:
            CaptionlensError: the caption has no photograph.
            UnreadableImage: the photograph has been removed since.
        """
        if caption.error is not None or not caption.words:
            return caption
        tokens = self.vocabulary.encode(" ".join(word.text for word in caption.words))[:-1]  # without <end>
        return examine(
            caption,
            caption.known_photograph().pixels(self.preprocessing),
            tokens,
            encode=self.encode,
            network=self._network_of(caption.region),
        )

    def _request(self, options: CaptionRequest | DecodingOptions | None) -> CaptionRequest:
        request = options if isinstance(options, CaptionRequest) else CaptionRequest(options or self.options)
        if request.keywords and self.nouns is None:
            raise OptionError(
                f"keywords: {self.name} does not know which of its words are nouns; "
                "to tell it: captionlens model nouns MODEL LIST"
            )
        return request

    def _network_of(self, region: Region | None) -> Network:
        """The network, with its attention restricted to a region."""
        if region is None:
            return self.network
        rows, columns = self.grid
        return RegionNetwork(self.network, region.places(rows, columns), rows * columns)

    def _to_caption(
        self,
        hypothesis: Hypothesis,
        others: Sequence[tuple[Alternative, ...]],
        novelty: float,
        request: CaptionRequest,
    ) -> Caption:
        tokens = self.vocabulary.decode(hypothesis.tokens)
        of_words: Sequence[float | None] = [None] * len(tokens)
        of_caption: float | None = None
        if self.calibration is not None:
            of_words, of_caption = self.calibration.confidence(hypothesis.tokens, hypothesis.log_probs, novelty)
        words = tuple(
            Word(token, float(np.exp(log_prob)), confidence, alternatives=alternatives)
            for token, log_prob, confidence, alternatives in zip(
                tokens, hypothesis.log_probs, of_words, others, strict=True
            )
        )
        unsure = withheld = False
        if self.calibration is not None and of_caption is not None:
            unsure = of_caption < self.calibration.unsure_below
            withheld = request.min_confidence is not None and of_caption < request.min_confidence
        withheld = withheld or (unsure and request.unsure == "withhold")
        keywords: tuple[str, ...] | None = None
        if request.keywords and self.nouns is not None:
            keywords = () if withheld else self.nouns.keywords_of(words, request.keywords)
        return Caption(
            self.vocabulary.text(tokens),
            log_prob=hypothesis.log_prob,
            words=words,
            attention=hypothesis.attention.reshape(len(words), *self.grid),
            model=self.name,
            confidence=of_caption,
            unsure=unsure and request.unsure == "mark",
            withheld=withheld,
            region=request.region,
            keywords=keywords,
        )
