"""Confidence: calibrated probabilities of words and captions, lowered for out-of-distribution photographs.

A word is right if one of the photograph's reference captions contains it. The confidence of a word is the probability
that it is right. The confidence of a caption is the expected share of its words that are right, weighted by inverse
document frequency (idf), so that "a" and "in" count little. Both come from logistic regressions that
`scoring.confidence_fit` fits to held-out photographs (Platt, 1999; Guo, Pleiss, Sun and Weinberger, "On Calibration of
Modern Neural Networks", ICML 2017).

A caption is unsure where its confidence is below that of nearly all held-out photographs: the captioner may not know
this kind of photograph.

Both fall with the novelty of a photograph. Novelty compares the photograph's distance from the nearest centre of the
training photographs with the distances that held-out photographs of the same data set have.
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
_SMALLEST = 1e-6  # probabilities are clipped to this distance from 0 and 1


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """The distribution of the training photographs: cluster centres of their mean-pooled grid features.

    Args:
        centres: (k, D) of unit length.
        median: of the distances of held-out photographs of the same data set.
        limit: 95th percentile of these distances.
    """

    centres: NDArray[np.float32]
    median: float
    limit: float

    def novelty(self, means: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Novelty of photographs: 0 up to the median distance, 1 at the 95th percentile, and linear beyond.

        Args:
            means: (B, D) mean-pooled grid features.

        Returns:
            (B,)
        """
        excess = (distance(means, self.centres) - self.median) / max(self.limit - self.median, _SMALLEST)
        novelty: NDArray[np.float64] = np.maximum(excess, 0.0)
        return novelty


def distance(means: NDArray[np.floating[Any]], centres: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Cosine distance (B,), in [0, 2], of photographs (B, D) from the nearest of `centres` (k, D) of unit length."""
    nearest: NDArray[np.float64] = (unit(means) @ centres.T).max(1)
    return 1 - nearest


def unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Normalise rows (B, D) to unit length; a row of zeros stays."""
    wide = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.maximum(lengths, _SMALLEST)


def word_inputs(log_probs: NDArray[Any], idf: NDArray[Any], novelty: float) -> NDArray[np.float64]:
    """Regressors of the confidence of a caption's words.

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
    """Regressors of the confidence of a caption, see `word_inputs`.

    Novelty is squared: a little is common, and much of it must outweigh the network's own probabilities.

    Returns:
        (CAPTION_INPUTS,)
    """
    return np.array([np.mean(log_probs), np.average(log_probs, weights=idf), novelty**2], np.float64)


def logistic(coefficients: NDArray[np.float64], inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (n,) of a logistic regression with coefficients (1 + k,), intercept first, for inputs (n, k)."""
    # tanh does not overflow.
    probabilities: NDArray[np.float64] = (1 + np.tanh((coefficients[0] + inputs @ coefficients[1:]) / 2)) / 2
    return probabilities


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The fitted map from a caption's log-probabilities to confidence.

    Args:
        word: (1 + WORD_INPUTS,) coefficients, the intercept first.
        caption: (1 + CAPTION_INPUTS,)
        idf: (V,) of every word of the vocabulary.
        familiarity: gives the novelty of photographs.
        unsure_below: captions of lower confidence are unsure.
        record: the data it was fitted to and its quality, as plain values.
    """

    word: NDArray[np.float64]
    caption: NDArray[np.float64]
    idf: NDArray[np.float32]
    familiarity: Familiarity
    unsure_below: float
    record: dict[str, Any]

    def novelty(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Novelty (B,) of photographs from their grid features (B, L, D), see `Familiarity.novelty`."""
        return self.familiarity.novelty(features.mean(1, dtype=np.float32))

    def confidence(
        self, tokens: tuple[int, ...], log_probs: NDArray[np.float32], novelty: float
    ) -> tuple[list[float], float]:
        """Confidence of each word, and of the caption; 0 for a caption without words.

        Args:
            tokens: indices of the n words.
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
            weights: SHA-256 of the model's weights; the calibration is valid for these only.
        """
        familiarity = self.familiarity
        content = {
            "format": FORMAT,
            "weights": weights,
            "record": self.record,
            "unsure_below": round(self.unsure_below, 4),
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
            vocabulary: size V of the model's vocabulary.
            channels: D of its grid features.

        Raises:
            ModelError: the file cannot be read, is incomplete or malformed, or was fitted to another model.
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
                unsure_below=float(content.get("unsure_below", 0.0)),  # version 0.1 knew none
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
            or not 0 <= self.unsure_below <= 1
        ):
            raise ModelError(path, "holds a number that makes no sense")
        if self.word[-1] > 0 or self.caption[-1] > 0:
            raise ModelError(path, "makes strange photographs more confident, not less")


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """The record, checked for the entries that model cards and `model show` print."""
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
    """Encode rows as base64 of int8, each scaled to a maximum of 127; only directions are kept."""
    largest = np.maximum(np.abs(array).max(1, keepdims=True), _SMALLEST)
    return base64.b64encode(np.rint(array / largest * 127).astype(np.int8).tobytes()).decode("ascii")


def _unpack(text: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Decode rows, normalised to unit length."""
    rows = np.frombuffer(base64.b64decode(text, validate=True), np.int8).reshape(shape)
    return unit(rows.astype(np.float32)).astype(np.float32)
