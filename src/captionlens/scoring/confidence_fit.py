"""Calibration of a captioner's confidence: novelty of photographs, and logistic regressions on held-out ones."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from captionlens.datasets.records import Dataset, Record, split_name
from captionlens.datasets.several import split_of, titles
from captionlens.errors import DatasetError, UnreadableImage
from captionlens.runtime.captioner import Captioner
from captionlens.runtime.confidence import (
    Calibration,
    Familiarity,
    caption_inputs,
    distance,
    logistic,
    unit,
    word_inputs,
)
from captionlens.runtime.vocabulary import Vocabulary, split_words
from captionlens.scoring.confidence_scores import expected_calibration_error, fit_logistic, right_words

log = logging.getLogger("captionlens")

CENTRES = 256
FOLDS = 5
FEW = 200  # photographs: fewer give a poor calibration, and a warning
UNSURE = 0.1  # share of the held-out photographs whose captions are unsure
_ROUNDS = 20  # largest number of iterations of k-means


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A captioned photograph with its n words as samples of the regression."""

    mean: NDArray[np.float32]  # (D,) mean-pooled grid features
    log_probs: NDArray[np.float64]  # (n,)
    idf: NDArray[np.float64]  # (n,)
    right: NDArray[np.float64]  # (n,) 1 if a reference contains the word, else 0

    @property
    def share(self) -> float:
        """Share of right words, weighted by idf."""
        return float(np.average(self.right, weights=self.idf))


@dataclass(frozen=True, slots=True)
class CalibrationFit:
    """A calibration, and the path and cause of photographs that could not be read."""

    calibration: Calibration
    failed: tuple[tuple[str, str], ...]


def fit_calibration(
    captioner: Captioner,
    datasets: Sequence[Dataset],
    *,
    split: str = "val",
    batch_size: int = 16,
    progress: bool = True,
) -> CalibrationFit:
    """Fit the confidence of a captioner with its default decoding options.

    Cluster centres and document frequencies come from the training splits. The regressions are fitted to captions of
    `split`, which must be held out; each photograph counts alike. The
    calibration errors in the record are from five-fold cross-validation.

    Args:
        captioner: of `captionlens.load`.
        datasets: with the split `train` and the held-out one; a data set may lack one of them, if another has it.
        split: the held-out split.
        batch_size: photographs at a time.
        progress: show bars on a terminal.

    Raises:
        OptionError: no data set has one of the splits.
        DatasetError: fewer photographs can be captioned than there are folds.
    """
    training = [record for records in split_of(datasets, "train") for record in records]
    held_out = [record for records in split_of(datasets, split) for record in records]
    idf = document_frequencies(training, captioner.vocabulary)
    failed: list[tuple[str, str]] = []
    means = [
        features.mean(0)
        for batch in _encoded(captioner, training, batch_size, "training photographs", failed, progress)
        for _, features in batch
    ]
    samples = []
    for batch in _encoded(captioner, held_out, batch_size, "captions", failed, progress):
        captions = captioner.caption_features(np.stack([features for _, features in batch]))
        for (record, features), caption in zip(batch, captions, strict=True):
            if not caption.words:
                continue
            words = [word.text for word in caption.words]
            log_probs = np.log(np.maximum([word.probability for word in caption.words], 1e-30))
            numbers = captioner.vocabulary.encode(caption.text)[1:-1]
            right = right_words(words, record.captions)
            samples.append(Sample(features.mean(0), log_probs, idf[numbers].astype(np.float64), right))
    if not means or len(samples) < FOLDS:
        raise DatasetError(
            datasets[0].root, f"has too few photographs to calibrate with: {len(means)} and {len(samples)}"
        )
    if len(samples) < FEW:
        log.warning("calibrated on %d photographs only: below %d, confidence is a rough guide", len(samples), FEW)
    centres = cluster(np.stack(means), CENTRES)
    calibration = fit(samples, centres, idf)
    options = captioner.options
    history = {
        "dataset": titles(datasets),
        "train_photographs": len(means),
        "split": split_name(split),
        "photographs": len(samples),
        "decoding": {name: getattr(options, name) for name in ("beam", "length_penalty", "max_words")},
        "ece": cross_validate(samples, centres, idf),
    }
    return CalibrationFit(replace(calibration, record=history), tuple(failed))


def _encoded(
    captioner: Captioner,
    records: Sequence[Record],
    batch_size: int,
    name: str,
    failed: list[tuple[str, str]],
    progress: bool,
) -> Iterator[list[tuple[Record, NDArray[np.float32]]]]:
    """Yield batches of readable photographs with their grid features (L, D); the others are added to `failed`."""
    features = captioner.encode_many((record.image for record in records), batch_size=batch_size)
    bar = tqdm(features, total=len(records), desc=name, unit="photo", disable=None if progress else True)
    batch: list[tuple[Record, NDArray[np.float32]]] = []
    for record, grid in zip(records, bar, strict=True):
        if isinstance(grid, UnreadableImage):
            failed.append((str(record.image), str(grid)))
        else:
            batch.append((record, grid))
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def document_frequencies(records: Sequence[Record], vocabulary: Vocabulary) -> NDArray[np.float32]:
    """Compute log inverse document frequencies, float32 (V,), above 0; a photograph's captions are one document."""
    counts = Counter(
        word for record in records for word in {word for caption in record.captions for word in split_words(caption)}
    )
    seen = np.array([counts[token] for token in vocabulary.tokens])
    # Half a photograph more keeps them above 0 for words of all photographs, and finite for words of none.
    return np.log((len(records) + 1) / (seen + 0.5)).astype(np.float32)


def cluster(means: NDArray[np.float32], number: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Spherical k-means (Dhillon and Modha, "Concept Decompositions", Machine Learning 42, 2001).

    Args:
        means: (N, D) mean-pooled grid features.
        number: of centres; with fewer photographs, each is a centre.
        seed: of the choice of the initial photographs.

    Returns:
        (number, D) centres of unit length.
    """
    points = unit(means).astype(np.float32)
    random = np.random.default_rng(seed)
    centres = points[np.sort(random.choice(len(points), min(number, len(points)), replace=False))]
    nearest = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        before, nearest = nearest, (points @ centres.T).argmax(1)
        if (before == nearest).all():
            break
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, points)
        taken = np.bincount(nearest, minlength=len(centres)) > 0
        centres = unit(np.where(taken[:, None], sums, centres)).astype(np.float32)
    return centres


def fit(samples: Sequence[Sample], centres: NDArray[np.float32], idf: NDArray[np.float32]) -> Calibration:
    """Fit a calibration, without a record.

    Args:
        samples: held-out photographs of the same data set.
        centres: (k, D) of the training photographs.
        idf: (V,) of the vocabulary.
    """
    means = np.stack([sample.mean for sample in samples])
    median, limit = np.quantile(distance(means, centres), (0.5, 0.95))
    familiarity = Familiarity(centres, float(median), float(limit))
    novelty = familiarity.novelty(means)
    rows = list(zip(samples, novelty, strict=True))
    word = np.concatenate([word_inputs(s.log_probs, s.idf, strange) for s, strange in rows])
    caption = np.stack([caption_inputs(s.log_probs, s.idf, strange) for s, strange in rows])
    of_caption = _fit_monotone(caption, np.array([sample.share for sample in samples]))
    return Calibration(
        word=_fit_monotone(word, np.concatenate([sample.right for sample in samples])),
        caption=of_caption,
        idf=idf,
        familiarity=familiarity,
        unsure_below=float(np.quantile(logistic(of_caption, caption), UNSURE)),
        record={},
    )


def _fit_monotone(inputs: NDArray[np.float64], outcome: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit a logistic regression in which the last input, squared novelty, never raises the confidence."""
    coefficients = fit_logistic(inputs, outcome)
    if coefficients[-1] > 0:
        coefficients = np.append(fit_logistic(inputs[:, :-1], outcome), 0.0)
    return coefficients


def cross_validate(
    samples: Sequence[Sample], centres: NDArray[np.float32], idf: NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """Compute the cross-validated ECE of words and captions, `before` and `after` calibration."""
    words: list[NDArray[np.float64]] = []
    captions: list[float] = []
    order: list[Sample] = []
    for fold in range(FOLDS):
        fitted = fit([sample for number, sample in enumerate(samples) if number % FOLDS != fold], centres, idf)
        for sample in samples[fold::FOLDS]:
            novelty = float(fitted.familiarity.novelty(sample.mean[None])[0])
            words.append(logistic(fitted.word, word_inputs(sample.log_probs, sample.idf, novelty)))
            inputs = caption_inputs(sample.log_probs, sample.idf, novelty)
            captions.append(float(logistic(fitted.caption, inputs[None])[0]))
            order.append(sample)
    right = np.concatenate([sample.right for sample in order]).tolist()
    shares = [sample.share for sample in order]
    raw = np.concatenate([np.exp(sample.log_probs) for sample in order]).tolist()
    means = [float(np.exp(sample.log_probs.mean())) for sample in order]
    result: dict[str, Any] = {
        "words": (raw, np.concatenate(words).tolist(), right),
        "captions": (means, captions, shares),
    }
    return {
        name: {
            "before": expected_calibration_error(before, true),
            "after": expected_calibration_error(after, true),
        }
        for name, (before, after, true) in result.items()
    }
