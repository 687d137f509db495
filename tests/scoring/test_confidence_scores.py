"""Calibration error, logistic regression and rank correlation against other ways to get them; the fit as a whole."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from captionlens.datasets.records import Record
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.confidence import CAPTION_INPUTS, WORD_INPUTS
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.scoring.confidence_fit import Sample, cluster, cross_validate, document_frequencies, fit
from captionlens.scoring.confidence_scores import (
    confidence_report,
    expected_calibration_error,
    fit_logistic,
    ranks,
    right_words,
    spearman,
)


def test_calibration_error_by_hand() -> None:
    # Bins of a half: three at 0.2 on average of which one is right, one at 0.9 that is right.
    confidence, right = [0.1, 0.2, 0.3, 0.9], [0, 1, 0, 1]
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx(3 / 4 * (1 / 3 - 0.2) + 1 / 4 * 0.1)
    assert expected_calibration_error([1.0, 1.0], [0, 0]) == 1  # 1 belongs to the last bin
    assert expected_calibration_error([0.25] * 4, [0, 0, 1, 0]) == 0
    assert expected_calibration_error([0.4], [0.4]) == 0  # shares are outcomes too


def test_calibration_error_bin_by_bin() -> None:
    random = np.random.default_rng(0)
    confidence, outcome = random.random(500), random.random(500)
    total = 0.0
    for low in range(15):
        chosen = [i for i, value in enumerate(confidence) if low / 15 <= value < (low + 1) / 15]
        if chosen:
            total += len(chosen) / 500 * abs(confidence[chosen].mean() - outcome[chosen].mean())
    assert expected_calibration_error(confidence.tolist(), outcome.tolist()) == pytest.approx(total)


@pytest.mark.parametrize(("confidence", "outcome"), [([], []), ([0.5], []), ([0.5], [1, 0])])
def test_calibration_error_of_nothing(confidence: list[float], outcome: list[float]) -> None:
    with pytest.raises(ValueError, match="as many"):
        expected_calibration_error(confidence, outcome)


def test_logistic_regression_has_its_closed_form() -> None:
    """With one input of two values and no penalty, each group gets its own share."""
    inputs = np.array([[0.0]] * 10 + [[1.0]] * 8)
    outcome = np.array([1.0] * 3 + [0.0] * 7 + [1.0] * 6 + [0.0] * 2)
    intercept, slope = fit_logistic(inputs, outcome, penalty=0.0)
    assert intercept == pytest.approx(math.log(3 / 7), abs=1e-6)
    assert intercept + slope == pytest.approx(math.log(6 / 2), abs=1e-6)


def test_logistic_regression_against_lbfgs() -> None:
    torch = pytest.importorskip("torch", reason="the other implementation is torch's")
    random = np.random.default_rng(1)
    inputs = random.normal(size=(300, 4)) * [1, 3, 0.2, 10]
    outcome = np.clip(1 / (1 + np.exp(-inputs @ [1.0, -0.5, 2.0, 0.1])) + random.normal(size=300) * 0.2, 0, 1)
    x, y = torch.tensor(inputs), torch.tensor(outcome)
    coefficients = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([coefficients], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        score = coefficients[0] + x @ coefficients[1:]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(score, y, reduction="sum")
        loss = loss + 2.5 * (coefficients[1:] ** 2).sum() / 2
        loss.backward()
        return loss

    optimiser.step(closure)
    np.testing.assert_allclose(fit_logistic(inputs, outcome, penalty=2.5), coefficients.detach().numpy(), atol=1e-4)


def test_logistic_regression_of_what_can_be_told_apart() -> None:
    """Without a penalty the slope would be infinite; Newton's first steps would overshoot."""
    inputs = np.array([[-100.0], [-1.0], [1.0], [100.0]])
    coefficients = fit_logistic(inputs, np.array([0.0, 0.0, 1.0, 1.0]), penalty=0.01)
    assert np.isfinite(coefficients).all()
    assert coefficients[1] > 1


def test_ranks_and_their_correlation_with_ties() -> None:
    assert ranks([10, 20, 20, 5]).tolist() == [2, 3.5, 3.5, 1]
    # By hand: ranks (1, 2.5, 2.5, 4) and (2, 1, 3, 4) about their mean 2.5.
    wanted = (1.5 * 0.5 + 0 + 0 + 1.5 * 1.5) / math.sqrt(4.5 * 5)
    assert spearman([1, 2, 2, 3], [20, 10, 30, 40]) == pytest.approx(wanted)
    assert spearman([1, 2, 3], [9, 5, 1]) == pytest.approx(-1)
    assert spearman([1, 1], [1, 2]) is None
    with pytest.raises(ValueError, match="1 values with 2"):
        spearman([1], [1, 2])


def test_rank_correlation_of_every_order() -> None:
    """The formula for ranks without ties: 1 - 6 sum d^2 / (n (n^2 - 1))."""
    for order in itertools.permutations(range(5)):
        squares = sum((place - value) ** 2 for place, value in enumerate(order))
        assert spearman(range(5), order) == pytest.approx(1 - 6 * squares / (5 * 24))


def test_words_are_right_where_a_reference_says_them() -> None:
    assert right_words(["a", "dog", "swims"], ["A dog runs.", "One DOG!"]).tolist() == [1, 1, 0]


def test_document_frequencies() -> None:
    vocabulary = Vocabulary.build(["a dog a cat bird"])
    records = [
        Record(None, ("a dog", "the dog", "a a"), "train", "1"),  # type: ignore[arg-type]
        Record(None, ("a cat",), "train", "2"),  # type: ignore[arg-type]
    ]
    idf = dict(zip(vocabulary.tokens, document_frequencies(records, vocabulary), strict=True))
    assert idf["a"] == pytest.approx(math.log(3 / 2.5))
    assert idf["dog"] == idf["cat"] == pytest.approx(math.log(3 / 1.5))
    assert idf["bird"] == pytest.approx(math.log(3 / 0.5))


def test_clusters_are_found() -> None:
    random = np.random.default_rng(2)
    directions = np.eye(6, dtype=np.float32)[:3]
    points = np.concatenate([8 * d + random.normal(size=(40, 6)) * 0.3 for d in directions]).astype(np.float32)
    centres = cluster(points, 3, seed=1)
    assert np.linalg.norm(centres, axis=1) == pytest.approx(1, abs=1e-6)
    assert len(cluster(points[:2], 3)) == 2
    # Every photograph is at least as near to a centre as k-means' starting points are; the best is one centre each.
    best = (points / np.linalg.norm(points, axis=1, keepdims=True)) @ directions.T
    found = (points / np.linalg.norm(points, axis=1, keepdims=True)) @ centres.T
    assert found.max(1).mean() >= best.max(1).mean() - 0.01


def made_up(number: int, *, novelty_hurts: bool = True) -> tuple[list[Sample], np.ndarray, np.ndarray]:
    """Photographs whose words are right half as often as the network believes, less often far from the centre."""
    random = np.random.default_rng(3)
    centres = np.eye(4, dtype=np.float32)[:1]
    idf = np.linspace(0.1, 5, 20).astype(np.float32)
    samples = []
    for _ in range(number):
        tilt = abs(random.normal()) * 0.5
        mean = np.array([math.cos(tilt), math.sin(tilt), 0, 0], np.float32)
        probability = random.uniform(0.2, 0.99, 8)
        chance = probability / 2 * math.exp(-2 * tilt if novelty_hurts else 0.4 * tilt)
        right = (random.random(8) < chance).astype(np.float64)
        samples.append(Sample(mean, np.log(probability), idf[random.integers(0, 20, 8)].astype(float), right))
    return samples, centres, idf


def test_a_fit_mends_the_calibration_and_minds_novelty() -> None:
    samples, centres, idf = made_up(600)
    ece = cross_validate(samples, centres, idf)
    assert ece["words"]["before"] > 0.2
    assert ece["words"]["after"] < 0.05
    assert ece["captions"]["after"] < 0.05 < ece["captions"]["before"]
    fitted = fit(samples, centres, idf)
    assert fitted.word.shape == (1 + len(WORD_INPUTS),)
    assert fitted.caption.shape == (1 + len(CAPTION_INPUTS),)
    angles = np.linspace(0, 1.5, 7)
    novelty = fitted.familiarity.novelty(np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], 1))
    assert (np.diff(novelty[1:]) > 0).all()
    tokens, log_probs = (3, 9, 14), np.log(np.array([0.9, 0.5, 0.7], np.float32))
    found = [fitted.confidence(tokens, log_probs, value) for value in novelty]
    assert (np.diff([caption for _, caption in found]) <= 0).all()
    assert (np.diff([words for words, _ in found], axis=0) <= 0).all()
    assert found[-1][1] < found[0][1] / 2


def test_strange_photographs_never_gain() -> None:
    samples, centres, idf = made_up(600, novelty_hurts=False)
    fitted = fit(samples, centres, idf)
    assert fitted.word[-1] <= 0
    assert fitted.caption[-1] <= 0
    assert fitted.word[-1] == 0  # there the data would have it the other way round


def test_a_caption_without_words() -> None:
    samples, centres, idf = made_up(50)
    assert fit(samples, centres, idf).confidence((), np.zeros(0, np.float32), 0.0) == ([], 0.0)


def test_the_report_by_hand() -> None:
    captions = [
        Caption("a dog", words=(Word("a", 0.9, 1.0), Word("dog", 0.4, 0.5)), confidence=0.5),
        Caption("a cat", words=(Word("a", 0.9, 1.0), Word("cat", 0.4, 0.0)), confidence=0.25),
    ]
    idf = [np.array([1.0, 3.0]), np.array([1.0, 3.0])]
    report = confidence_report(captions, [["a dog"], ["a bird"]], idf, [2.0, 0.5])
    assert report["words"]["number"] == 4
    # Of confidence 1 two are right, of 0.5 one, of 0 none.
    assert report["words"]["after"] == pytest.approx(0.5 / 4)
    assert report["words"]["before"] == pytest.approx(2 / 4 * 0.1 + 2 / 4 * (0.5 - 0.4))
    assert report["captions"]["after"] == pytest.approx(0.5 / 2)  # the shares are 1 and 1/4
    assert report["captions"]["before"] == pytest.approx((1 + 0.25) / 2 - 0.6)
    assert report["spearman"] == pytest.approx(1)
    assert (report["least_confident_tenth"], report["most_confident_tenth"]) == (0.5, 2.0)
