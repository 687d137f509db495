"""How sure a captioner may be of its words: its probabilities calibrated, and lower the stranger the photograph is.

A word is right if one of the photograph's reference captions says it. The confidence of a word is the probability
that it is right; that of a caption the expected share of its words that are right, weighted by inverse document
frequency (idf), so that "a" and "in" say little. Both come from logistic regressions that `scoring.calibrate` fits to
photographs the network has not seen (Platt, 1999; Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
Networks", ICML 2017).

A photograph unlike those the network was trained on makes both fall: its novelty is how much further it is from the
nearest centre of the training photographs than photographs of their kind are.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import ModelError
from captionlens.files import write_text

FORMAT = 1
NAME = "confidence.json"
WORD_INPUTS = ("log_odds", "base_log_odds", "mean_log_prob", "idf_log_prob", "squared_novelty")
CAPTION_INPUTS = ("mean_log_prob", "idf_log_prob", "squared_novelty")
_SMALLEST = 1e-6  # probabilities are kept so far from 0 and 1


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """What the training photographs look like: centres of the means over places of their grid features.

    Args:
        centres: (k, D) of unit length.
        median: of the distance of photographs of the same kind that the network has not seen.
        limit: 95th percentile of the same.
    """

    centres: NDArray[np.float32]
    median: float
    limit: float

    def novelty(self, means: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """How strange photographs are: 0 for the more familiar half of their kind, 1 at its 95th percentile, then more.

        Args:
            means: (B, D) grid features, averaged over the places.

        Returns:
            (B,)
        """
        excess = (distance(means, self.centres) - self.median) / max(self.limit - self.median, _SMALLEST)
        novelty: NDArray[np.float64] = np.maximum(excess, 0.0)
        return novelty


def distance(means: NDArray[np.floating[Any]], centres: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Cosine distance of photographs (B, D) from the nearest of `centres` (k, D), of unit length; (B,), in [0, 2]."""
    nearest: NDArray[np.float64] = (unit(means) @ centres.T).max(1)
    return 1 - nearest


def unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows (B, D) made of length 1; a row of zeros stays."""
    wide = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.maximum(lengths, _SMALLEST)


def word_inputs(log_probs: NDArray[Any], idf: NDArray[Any], novelty: float) -> NDArray[np.float64]:
    """What the confidence of a caption's words is told from.

    Args:
        log_probs: (n,) of its words.
        idf: (n,) inverse document frequencies of its words, natural logarithms, above 0.
        novelty: of the photograph.

    Returns:
        (n, WORD_INPUTS)
    """
    shared = np.broadcast_to(caption_inputs(log_probs, idf, novelty), (len(log_probs), len(CAPTION_INPUTS)))
    return np.column_stack([_log_odds(np.exp(log_probs)), _log_odds(np.exp(-idf)), shared])


def caption_inputs(log_probs: NDArray[Any], idf: NDArray[Any], novelty: float) -> NDArray[np.float64]:
    """What the confidence of a caption is told from, see `word_inputs`.

    Novelty is squared: a little is nothing unusual, and much of it must outweigh whatever the network believes.

    Returns:
        (CAPTION_INPUTS,)
    """
    return np.array([np.mean(log_probs), np.average(log_probs, weights=idf), novelty**2], np.float64)


def logistic(coefficients: NDArray[np.float64], inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logistic regression: coefficients (1 + k,), the intercept first, applied to inputs (n, k); (n,)."""
    # tanh does not overflow.
    probabilities: NDArray[np.float64] = (1 + np.tanh((coefficients[0] + inputs @ coefficients[1:]) / 2)) / 2
    return probabilities


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """All that turns a caption's log-probabilities into confidence.

    Args:
        word: (1 + WORD_INPUTS,) coefficients, the intercept first.
        caption: (1 + CAPTION_INPUTS,)
        idf: (V,) of every word of the vocabulary.
        familiarity: of photographs.
        record: what it was fitted on and how well it does, plain values.
    """

    word: NDArray[np.float64]
    caption: NDArray[np.float64]
    idf: NDArray[np.float32]
    familiarity: Familiarity
    record: dict[str, Any]

    def novelty(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """How strange photographs are, from their grid features (B, L, D); (B,), see `Familiarity.novelty`."""
        return self.familiarity.novelty(features.mean(1, dtype=np.float32))

    def confidence(
        self, tokens: tuple[int, ...], log_probs: NDArray[np.float32], novelty: float
    ) -> tuple[list[float], float]:
        """Confidence of each word, and of the caption. A caption without words has 0.

        Args:
            tokens: the n words' numbers.
            log_probs: (n,) of the words.
            novelty: of the photograph.
        """
        if not tokens:
            return [], 0.0
        idf = self.idf[list(tokens)]
        words = logistic(self.word, word_inputs(log_probs, idf, novelty))
        caption = logistic(self.caption, caption_inputs(log_probs, idf, novelty)[None])
        return words.tolist(), float(caption[0])

    def save(self, path: Path, *, weights: str) -> None:
        """Write confidence.json.

        Args:
            path: of the file.
            weights: SHA-256 of the model's weights; with others the calibration does not count.
        """
        familiarity = self.familiarity
        content = {
            "format": FORMAT,
            "weights": weights,
            "record": self.record,
            "word": dict(zip(("intercept", *WORD_INPUTS), self.word.tolist(), strict=True)),
            "caption": dict(zip(("intercept", *CAPTION_INPUTS), self.caption.tolist(), strict=True)),
            "familiarity": {
                "number": familiarity.centres.shape[0],
                "channels": familiarity.centres.shape[1],
                "median": familiarity.median,
                "limit": familiarity.limit,
                "centres": _pack(familiarity.centres),
            },
            "idf": [round(float(value), 4) for value in self.idf],
        }
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path, *, weights: str, vocabulary: int, channels: int) -> Self:
        """Read confidence.json.

        Args:
            path: of the file.
            weights: SHA-256 of the model's weights.
            vocabulary: how many words the model has.
            channels: of its grid features.

        Raises:
            ModelError: the file cannot be read, lacks or garbles something, or was fitted to another model.
        """
        try:
            content = json.loads(path.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise ModelError(path, f"is of format {content['format']!r}, wanted {FORMAT}")
            if content["weights"] != weights:
                raise ModelError(path, "was fitted to other weights than the model's (captionlens model calibrate)")
            part = content["familiarity"]
            sizes = len(content["idf"]), int(part["channels"])
            if sizes != (vocabulary, channels):
                raise ModelError(
                    path, f"is for {sizes[0]} words and {sizes[1]} channels, the model has {vocabulary} and {channels}"
                )
            familiarity = Familiarity(
                _unpack(part["centres"], (int(part["number"]), channels)), float(part["median"]), float(part["limit"])
            )
            calibration = cls(
                word=np.array([float(content["word"][name]) for name in ("intercept", *WORD_INPUTS)]),
                caption=np.array([float(content["caption"][name]) for name in ("intercept", *CAPTION_INPUTS)]),
                idf=np.array(content["idf"], np.float32),
                familiarity=familiarity,
                record=_record(content["record"]),
            )
        except OSError as error:
            raise ModelError(path, error.strerror or str(error)) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(path, f"lacks or garbles a setting ({error})") from error
        calibration._check(path)
        return calibration

    def _check(self, path: Path) -> None:
        familiarity = self.familiarity
        limits = np.array([familiarity.median, familiarity.limit])
        numbers = (self.word, self.caption, self.idf, familiarity.centres, limits)
        if (
            not all(np.isfinite(array).all() for array in numbers)
            or self.idf.min() <= 0
            or not len(familiarity.centres)
        ):
            raise ModelError(path, "holds a number that makes no sense")
        if self.word[-1] > 0 or self.caption[-1] > 0:
            raise ModelError(path, "makes strange photographs more confident, not less")


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """The record, which must hold what model cards and `model show` tell of it."""
    for part in ("words", "captions"):
        for when in ("before", "after"):
            float(record["ece"][part][when])
    for name in ("dataset", "split"):
        str(record[name])
    for name in ("photographs", "train_photographs"):
        int(record[name])
    return record


def _log_odds(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    kept = np.clip(probabilities.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.log(kept) - np.log1p(-kept)


def _pack(array: NDArray[np.floating[Any]]) -> str:
    """Rows as text: whole numbers of a byte, the largest of each row 127, in base64. Only directions are kept."""
    largest = np.maximum(np.abs(array).max(1, keepdims=True), _SMALLEST)
    return base64.b64encode(np.rint(array / largest * 127).astype(np.int8).tobytes()).decode("ascii")


def _unpack(text: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Rows of length 1."""
    rows = np.frombuffer(base64.b64decode(text, validate=True), np.int8).reshape(shape)
    return unit(rows.astype(np.float32)).astype(np.float32)
