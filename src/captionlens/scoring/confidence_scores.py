"""Quality of a confidence: expected calibration error, and rank correlation with the captions' scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captionlens.runtime.caption import Caption
from captionlens.runtime.vocabulary import split_words

BINS = 15
_STEPS = 50  # of Newton's method, at most; about six suffice


def expected_calibration_error(confidence: Sequence[float], outcome: Sequence[float], bins: int = BINS) -> float:
    """ECE: mean distance of confidence from outcome over bins of equal width, weighted by their numbers of samples.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        confidence: (n,) in [0, 1].
        outcome: (n,) in [0, 1]: right or wrong, or a share of right words.
        bins: number of bins.

    Raises:
        ValueError: there are no samples, or the numbers of confidences and outcomes differ.
    """
    said, true = np.asarray(confidence, np.float64), np.asarray(outcome, np.float64)
    if said.shape != true.shape or not said.size:
        raise ValueError(f"want as many outcomes as confidences, and one at least; got {true.size} and {said.size}")
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(place, said - true)).sum() / said.size)


def fit_logistic(
    inputs: NDArray[np.float64], outcome: NDArray[np.float64], *, penalty: float = 1.0
) -> NDArray[np.float64]:
    """Fit a logistic regression by Newton's method (iteratively reweighted least squares).

    Args:
        inputs: (n, k)
        outcome: (n,) in [0, 1]; fractions are allowed, as expected values.
        penalty: factor of half the sum of squared coefficients, without the intercept.

    Returns:
        (1 + k,) coefficients, the intercept first.
    """
    design = np.column_stack([np.ones(len(inputs)), inputs])
    ridge = np.diag([1e-9, *[penalty] * inputs.shape[1]])
    coefficients = np.zeros(design.shape[1])
    objective = _objective(design, outcome, ridge, coefficients)
    for _ in range(_STEPS):
        expected = (1 + np.tanh(design @ coefficients / 2)) / 2
        gradient = design.T @ (outcome - expected) - ridge @ coefficients
        curvature = (design * (expected * (1 - expected))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature, gradient)
        # Far from the optimum a full step may overshoot.
        while (after := _objective(design, outcome, ridge, coefficients + step)) < objective and np.abs(step).max() > 0:
            step = step / 2
        coefficients = coefficients + step
        if after - objective <= 1e-10 * max(1.0, abs(objective)):
            break
        objective = after
    return coefficients


def _objective(
    design: NDArray[np.float64], outcome: NDArray[np.float64], ridge: NDArray[np.float64], at: NDArray[np.float64]
) -> float:
    """Penalised log-likelihood."""
    score = design @ at
    return float(outcome @ score - np.logaddexp(0, score).sum() - at @ ridge @ at / 2)


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1; ties share their mean rank."""
    _, place, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return shared


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, from -1 to 1; None if all values of one sequence are equal.

    Raises:
        ValueError: the lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(f"cannot correlate {len(first)} values with {len(second)}")
    a, b = ranks(first), ranks(second)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else None


def right_words(words: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Mark each of `words` by 1 if one of the references contains it, else 0; (n,)."""
    said = {word for reference in references for word in split_words(reference)}
    return np.array([float(word in said) for word in words])


def confidence_report(
    captions: Sequence[Caption],
    references: Sequence[Sequence[str]],
    idf: Sequence[NDArray[Any]],
    cider: Sequence[float],
) -> dict[str, Any]:
    """Report on the quality of the confidence of captions.

    Args:
        captions: with confidence and at least one word.
        references: of each photograph.
        idf: inverse document frequencies (n,) of the words of each caption.
        cider: CIDEr-D of each caption.

    Returns:
        `words` and `captions`: their number, and the ECE `before` (with the network's probability, for a caption the
        geometric mean over its words) and `after` (with the confidence). `spearman`: the correlation of the captions'
        confidence with CIDEr-D. Also the mean CIDEr-D of the least and the most confident tenth.
    """
    right = [right_words([word.text for word in c.words], r) for c, r in zip(captions, references, strict=True)]
    shares = [float(np.average(r, weights=i)) for r, i in zip(right, idf, strict=True)]
    words = [word for caption in captions for word in caption.words]
    raw = [float(np.exp(np.mean([np.log(max(w.probability, 1e-30)) for w in c.words]))) for c in captions]
    sure = [_known(caption.confidence) for caption in captions]
    true = np.concatenate(right).tolist()
    order = np.argsort(sure, kind="stable")
    tenth = max(1, len(order) // 10)
    scores = np.asarray(cider)
    return {
        "words": {
            "number": len(words),
            "before": expected_calibration_error([word.probability for word in words], true),
            "after": expected_calibration_error([_known(word.confidence) for word in words], true),
        },
        "captions": {
            "number": len(captions),
            "before": expected_calibration_error(raw, shares),
            "after": expected_calibration_error(sure, shares),
        },
        "spearman": spearman(sure, cider),
        "least_confident_tenth": float(scores[order[:tenth]].mean()),
        "most_confident_tenth": float(scores[order[-tenth:]].mean()),
    }


def _known(confidence: float | None) -> float:
    if confidence is None:
        raise ValueError("a caption has no confidence: its model is not calibrated")
    return confidence
