"""Attention against boxes, on maps made by hand, by a fine raster, and by what is known of Flickr8k."""

import re
from pathlib import Path

import numpy as np
import pytest

from captionlens.datasets import read_dataset
from captionlens.datasets.phrase_targets import phrase_of_words
from captionlens.datasets.phrases import PhraseBoxes, PhrasedCaption, phrase_reader
from captionlens.scoring.grounding import PhraseScore, score_own, score_phrase, score_reference, summarise

LEFT, RIGHT, TOP = ([[0.0, 0.0, 0.5, 1.0]], [[0.5, 0.0, 1.0, 1.0]], [[0.0, 0.0, 1.0, 0.5]])


def boxes_of(boxes: list[list[float]]) -> np.ndarray:
    return np.array(boxes, np.float32)


def phrased(text: str, *phrases: tuple[int, int, list[list[float]]]) -> PhrasedCaption:
    return PhrasedCaption(
        tuple(text.split()), tuple(PhraseBoxes(start, end, "other", boxes_of(boxes)) for start, end, boxes in phrases)
    )


def test_a_map_made_by_hand() -> None:
    attention = np.array([[0.1, 0.2], [0.3, 0.4]])
    score = score_phrase(attention, boxes_of([[0.5, 0.25, 1.0, 0.75]]))  # half of both cells on the right
    assert score.correctness == pytest.approx(0.1 + 0.2)
    assert score.uniform == pytest.approx(0.25)
    assert score.pointing  # the strongest cell's centre, (0.75, 0.75), is on the edge
    assert score.centre  # so is the middle
    score = score_phrase(attention, boxes_of([[0.5, 0.25, 1.0, 0.74], [0.6, 0.8, 1.0, 1.0]]))
    assert not score.pointing  # it falls between the two boxes, though most of its cell is covered
    assert score.centre
    assert not score_phrase(attention, boxes_of([[0.51, 0.0, 1.0, 1.0]])).centre


@pytest.mark.parametrize("seed", range(3))
def test_what_a_fine_raster_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    fine, rows, columns = 360, 4, 9
    attention = random.dirichlet(np.ones(rows * columns)).reshape(rows, columns)
    corners = np.sort(random.integers(0, 20, (3, 2, 2)), axis=1)
    corners[:, 1] += 1  # none is empty
    corners *= fine // 20
    inside = np.zeros((fine, fine), bool)
    for (left, top), (right, bottom) in corners:
        inside[top:bottom, left:right] = True
    boxes = (corners / fine).reshape(3, 4).astype(np.float32)
    spread = np.kron(attention, np.ones((fine // rows, fine // columns))) / (fine**2 / (rows * columns))
    score = score_phrase(attention, boxes)
    assert score.correctness == pytest.approx(spread[inside].sum(), abs=1e-5)
    assert score.uniform == pytest.approx(inside.mean(), abs=1e-5)
    strongest = np.argwhere(spread == spread.max()).mean(0)  # the centre of the strongest cell
    assert score.pointing == inside[tuple(strongest.astype(int))]


def test_attention_that_is_the_same_everywhere_scores_the_baseline() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        corners = np.sort(random.random((3, 2, 2)), axis=1).reshape(3, 4).astype(np.float32)
        score = score_phrase(np.full((9, 7), 1 / 63, np.float32), corners)
        assert score.correctness == pytest.approx(score.uniform, rel=1e-6)


def test_a_phrase_is_the_mean_of_its_words() -> None:
    # "T-shirts" is two words of the vocabulary, "," none, and the last phrase has none at all.
    caption = phrased("Two men , in T-shirts - .", (0, 2, LEFT), (4, 5, RIGHT), (5, 6, TOP))
    left, right = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    mixed = np.array([[0.4, 0.6]])
    first, second = score_reference(caption, np.stack([left, mixed, right, right, mixed]))
    assert first.correctness == pytest.approx((1 + 0.4) / 2)
    assert first.pointing  # though the second of its words points to the right
    assert second.correctness == pytest.approx((1 + 0.6) / 2)
    assert second.pointing
    assert score_reference(phrased("nothing with boxes"), np.ones((3, 1, 2))) == []


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("dog", "Two brown dogs"),
        ("dogs", "A dog"),
        ("men", "A man ,"),
        ("woman", "women"),
        ("policeman", "two policemen"),
        ("person", "A group of people"),
        ("children", "one child"),
        ("baby", "babies"),
        ("beach", "beaches"),
        ("glass", "glasses"),
        ("box", "boxes"),
        ("horse", "horses"),
        ("bus", "the buses"),
        ("dress", "A dress"),
        ("shirt", "T-Shirts"),
    ],
)
def test_own_words_are_matched_with_the_nouns_of_people(word: str, name: str) -> None:
    caption = phrased(f"{name} here", (0, len(name.split()), LEFT))
    attention = np.array([[[0.5, 0.5]], [[0.75, 0.25]]])
    (score,) = score_own(["a", word], attention, [phrased("another caption"), caption])
    assert score.correctness == pytest.approx(0.75)


def test_own_words_take_all_boxes_of_their_name_and_no_others() -> None:
    references = [
        phrased("a dog and a cat", (0, 2, LEFT), (3, 5, RIGHT)),
        phrased("two dogs on grass", (0, 2, [*LEFT, *TOP]), (3, 4, RIGHT)),
    ]
    attention = np.full((4, 2, 2), 0.25)
    (score,) = score_own(["a", "dog", "is", "brown"], attention, references)
    assert score.uniform == pytest.approx(0.75)  # left and top together
    assert score_own(["pass"], attention[:1], [phrased("a pas", (0, 2, LEFT))]) == []
    assert score_own([], attention[:0], references) == []


def test_a_summary_weighs_phrases_alike() -> None:
    photographs = [
        [PhraseScore(0.2, True, 0.1, False)],
        [],
        [PhraseScore(0.6, False, 0.3, True), PhraseScore(0.7, True, 0.5, True)],
    ]
    summary = summarise(photographs, intervals=False)
    assert summary == {
        "phrases": 3,
        "attention_correctness": pytest.approx(0.5),
        "pointing_game": pytest.approx(2 / 3),
        "uniform": pytest.approx(0.3),
        "centre": pytest.approx(2 / 3),
    }
    assert summarise([[], []]) == summarise([]) == {"phrases": 0}


def test_intervals_are_those_of_drawing_photographs_again() -> None:
    random = np.random.default_rng(1)
    photographs = [
        [PhraseScore(value, value > 0.5, 0.1, False) for value in random.beta(2, 3, size)]
        for size in random.integers(1, 9, 60)
    ]
    summary = summarise(photographs)
    drawn = []
    for _ in range(2000):
        phrases = [phrase for row in random.integers(0, 60, 60) for phrase in photographs[row]]
        drawn.append((np.mean([p.correctness for p in phrases]), np.mean([p.pointing for p in phrases])))
    for column, name in enumerate(("attention_correctness", "pointing_game")):
        low, high = np.quantile([means[column] for means in drawn], [0.025, 0.975])
        assert low < summary[name] < high
        np.testing.assert_allclose(summary["intervals"][name], [low, high], atol=0.25 * (high - low))


def baselines_by_pixels(entities: Path, names: list[str], first: int) -> tuple[int, float, float]:
    """Phrases, the mean share of the photograph in their boxes, and how often these hold its middle.

    All counted in the photographs' own pixels, of which the first in a row has the number `first`.
    """
    shares, centres = [], []
    for name in names:
        annotation = (entities / "Annotations" / f"{name}.xml").read_text()
        width, height = (int(re.findall(rf"<{side}>(\d+)<", annotation)[0]) for side in ("width", "height"))
        found: dict[str, tuple[float, bool]] = {}
        for chain in set(re.findall(r"<name>(\d+)</name>", annotation)):
            pixels, centre = np.zeros((height, width), bool), False
            for item in re.findall(r"<object>.*?</object>", annotation, re.DOTALL):
                numbers = [int(number) for number in re.findall(r"<[xy]m[inax]+>(\d+)<", item)]
                if f"<name>{chain}<" in item and numbers:
                    left, top, right, bottom = numbers
                    pixels[top - first : bottom, left - first : right] = True
                    centre |= left - first <= width / 2 <= right and top - first <= height / 2 <= bottom
            if pixels.any():
                found[chain] = float(pixels.mean()), centre
        for chain in re.findall(r"\[/EN#(\d+)", (entities / "Sentences" / f"{name}.txt").read_text()):
            if chain in found:
                shares.append(found[chain][0])
                centres.append(found[chain][1])
    return len(shares), float(np.mean(shares)), float(np.mean(centres))


def test_baselines_of_flickr8k_dev(shared_data: Path) -> None:
    """They need no network."""
    entities = shared_data / "flickr8k" / "Flickr30kEntities"
    records = read_dataset(shared_data / "flickr8k").split("dev")
    read = phrase_reader(entities)
    scores = []
    for record in records:
        captions = read(record)
        maps = [np.full((len(phrase_of_words(caption)[0]), 9, 9), 1 / 81) for caption in captions]
        scores.append([score for pair in zip(captions, maps, strict=True) for score in score_reference(*pair)])
    summary = summarise(scores, intervals=False)
    assert summary["attention_correctness"] == pytest.approx(summary["uniform"], abs=1e-9)
    names = [record.source_id.partition("_")[0] for record in records]
    ours = (summary["phrases"], summary["uniform"], summary["centre"])
    assert ours == pytest.approx(baselines_by_pixels(entities, names, first=1), abs=1e-5)
    # A figure measured elsewhere, 0.296 and 0.536 of 13,123 phrases, takes the first pixel for number 0; no box of
    # Flickr8k begins at 0, and many end at the width or height.
    assert baselines_by_pixels(entities, names, first=0) == pytest.approx((13_123, 0.296, 0.536), abs=1e-3)
    assert ours == pytest.approx((13_123, 0.298, 0.5385), abs=5e-4)
