"""BLEU, ROUGE-L, CIDEr-D, METEOR and their intervals, by hand and against the official scorers."""

import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captionlens.errors import OptionError
from captionlens.scoring import meteor
from captionlens.scoring.bleu import Bleu, bleu
from captionlens.scoring.bootstrap import percentile_interval, resampled_totals
from captionlens.scoring.cider import CiderD
from captionlens.scoring.rouge import rouge_l
from captionlens.scoring.scores import References, quick_cider, score_captions
from helpers import official_scorers

CANDIDATES = {
    1: "a dog runs across the grass",
    2: "two men play football in a park.",
    3: "a red bus",
    4: "",
    5: "1 1/2 pizzas on a table",
}
REFERENCES = {
    1: ["A dog is running across green grass.", "a brown dog runs on the lawn"],
    2: ["Two men are playing football.", "Men playing football in the park", "a football match"],
    3: ["a red double-decker bus on the street", "the bus is red"],
    4: ["an empty room", "nothing to see here"],
    5: ["1 1/2 pizzas lie on the table", "some pizza"],
}
# pycocoevalcap 1.2 on CANDIDATES and REFERENCES, tokenised by its Java tokeniser.
OFFICIAL = {
    "BLEU-1": 0.7242758816554855,
    "BLEU-2": 0.4737106334343254,
    "BLEU-3": 0.23373925024462094,
    "BLEU-4": 3.175944555964989e-05,
    "ROUGE-L": 0.5012363288725072,
    "CIDEr-D": 1.4854756093191077,
}


def test_golden_values_of_the_official_scorers() -> None:
    scores = score_captions(CANDIDATES, REFERENCES, intervals=False, meteor=False)
    assert list(scores.scores) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    assert scores.scores == pytest.approx(OFFICIAL, abs=1e-9)
    assert scores.photographs == 5
    assert scores.intervals == {} and scores.left_out == {}


def test_bleu_by_hand() -> None:
    counter = Bleu({0: [["the", "cat", "sat"], ["the", "cat", "sat", "down", "there"]]})
    # "the" matches once although it is said twice; both references are one word away: the shorter one counts.
    numbers = counter.statistics(0, ["the", "the", "cat", "sat"])
    assert numbers == [3, 2, 1, 0, 4, 3, 2, 1, 4, 3]
    scores = bleu(np.array(numbers))
    assert scores[0] == pytest.approx(3 / 4)
    assert scores[1] == pytest.approx(math.sqrt(3 / 4 * 2 / 3))
    short = bleu(np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 3]))
    assert short[0] == pytest.approx(math.exp(1 - 3))  # brevity


def test_rouge_by_hand() -> None:
    candidate = ["a", "dog", "runs", "on", "grass"]
    reference = ["a", "big", "dog", "runs"]
    precision, recall = 3 / 5, 3 / 4
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(candidate, [reference]) == pytest.approx(expected)
    assert rouge_l(candidate, [["no"], candidate]) == pytest.approx(1)
    assert rouge_l(candidate, [["no"]]) == 0
    assert rouge_l([], [["no"]]) == 0


def test_rouge_against_the_table_of_lengths() -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        one, other = (random.integers(5, size=random.integers(1, 15)).tolist() for _ in range(2))
        table = np.zeros((len(one) + 1, len(other) + 1), int)
        for i, a in enumerate(one):
            for j, b in enumerate(other):
                table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
        precision, recall = table[-1, -1] / len(one), table[-1, -1] / len(other)
        expected = 2.44 * precision * recall / (recall + 1.44 * precision) if table[-1, -1] else 0.0
        assert rouge_l(one, [other]) == pytest.approx(expected)


def test_cider_by_hand() -> None:
    cider = CiderD({"x": [["a", "dog"]], "y": [["a", "cat"]]})
    # "a" is in both documents and weighs nothing; "dog" and "a dog" are all that counts, and they agree
    # fully; there are no runs of three or four.
    assert cider.score("x", ["a", "dog"]) == pytest.approx(10 * 2 / 4)
    # The same words with one more, of no document, that weighs log 2 like "dog": cosine 1/sqrt(2) for words,
    # 1/sqrt(2) for pairs, and the penalty of one pair more.
    penalty = math.exp(-1 / (2 * 6**2))
    assert cider.score("x", ["a", "dog", "runs"]) == pytest.approx(10 * 2 / math.sqrt(2) / 4 * penalty)
    assert cider.score("y", ["a", "dog"]) == 0
    assert cider.score("y", []) == 0


def test_cider_takes_word_numbers_and_batches() -> None:
    words = {key: [caption.split() for caption in captions] for key, captions in REFERENCES.items()}
    numbers: dict[str, int] = defaultdict(lambda: len(numbers))
    coded = {key: [[numbers[w] for w in caption] for caption in captions] for key, captions in words.items()}
    captions = [CANDIDATES[1].split(), CANDIDATES[3].split(), CANDIDATES[1].split()]
    keys = [1, 3, 2]
    expected = [CiderD(words).score(key, caption) for key, caption in zip(keys, captions, strict=True)]
    got = CiderD(coded).score_many(keys, [[numbers[w] for w in caption] for caption in captions])
    assert got.tolist() == pytest.approx(expected)
    assert got[0] > 0.5
    with pytest.raises(KeyError):
        CiderD(words).score("unknown", ["a"])
    with pytest.raises(ValueError, match="argument"):
        CiderD(words).score_many([1, 2], [["a"]])
    with pytest.raises(OptionError, match="at least one photograph"):
        CiderD({})
    with pytest.raises(OptionError, match="7"):
        CiderD({7: []})


def test_keys_must_agree() -> None:
    with pytest.raises(OptionError, match=r"1 photographs have no caption to score: 5"):
        score_captions({k: v for k, v in CANDIDATES.items() if k != 5}, REFERENCES)
    with pytest.raises(OptionError, match=r"1 captions have no references: 99"):
        score_captions({**CANDIDATES, 99: "a"}, REFERENCES)
    with pytest.raises(OptionError, match="no reference captions"):
        score_captions({}, {})
    with pytest.raises(OptionError, match="1 photographs have no reference captions: 2"):
        References({1: ["a"], 2: []})


def test_references_are_made_once_and_bring_their_tokenizer() -> None:
    references = References({1: ["Ein Hund"], 2: ["Eine Katze"]}, str.split)
    assert quick_cider({1: "Ein Hund", 2: "Eine Katze"}, references) == pytest.approx(5)
    assert quick_cider({1: "ein hund", 2: "Eine Katze"}, references) == pytest.approx(2.5)
    scores = score_captions({1: "Ein Hund", 2: "Katze"}, references, intervals=False, meteor=False)
    assert scores.per_photograph["ROUGE-L"][1] == 1
    assert scores.scores["CIDEr-D"] == pytest.approx(np.mean(list(scores.per_photograph["CIDEr-D"].values())))
    assert scores.scores["CIDEr-D"] == pytest.approx(quick_cider({1: "Ein Hund", 2: "Katze"}, references))


def test_resampled_totals_are_totals_of_drawn_photographs() -> None:
    ones = np.stack([np.ones(7), 10.0 ** np.arange(7)], axis=1)
    totals = resampled_totals(ones, resamples=500, seed=1)
    assert totals.shape == (500, 2)
    assert (totals[:, 0] == 7).all()  # as many as there are
    digits = [int(d) for d in f"{int(totals[0, 1]):07d}"]
    assert sum(digits) == 7
    assert len(np.unique(totals[:, 1])) > 100
    assert (resampled_totals(ones, resamples=500, seed=1) == totals).all()
    assert (resampled_totals(ones, resamples=500, seed=2) != totals).any()
    with pytest.raises(OptionError, match="resamples"):
        resampled_totals(ones, resamples=0)


def test_intervals_are_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=400)
    means = resampled_totals(values[:, None], resamples=4000)[:, 0] / 400
    low, high = percentile_interval(means)
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_corpus_bleu_is_computed_anew_for_every_resample() -> None:
    keys = range(30)
    references = {key: ["a dog runs over the grass", "a cat sleeps"] for key in keys}
    candidates = {key: "a dog runs over the grass" if key % 2 else "the cat sat down here" for key in keys}
    scores = score_captions(candidates, references, meteor=False, resamples=200, seed=4)
    ready = References(references)
    statistics = np.array([ready.bleu.statistics(key, candidates[key].split()) for key in keys])
    random = np.random.default_rng(4)
    draws = random.integers(30, size=(200, 30))
    slow = np.array([bleu(statistics[draw].sum(axis=0)) for draw in draws])
    for order in range(4):
        expected = np.quantile(slow[:, order], [0.025, 0.975])
        assert scores.intervals[f"BLEU-{order + 1}"] == pytest.approx(tuple(expected))
    assert list(scores.intervals) == list(scores.scores)


def test_meteor_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert meteor.why_not() is not None
    scores = score_captions(CANDIDATES, REFERENCES, intervals=False)
    assert "METEOR" not in scores.scores
    assert "java" in scores.left_out["METEOR"] or "pycocoevalcap" in scores.left_out["METEOR"]


def one_against_the_rest(captions: Mapping[Any, list[str]]) -> tuple[dict[Any, str], dict[Any, list[str]]]:
    return {key: texts[0] for key, texts in captions.items()}, {k: texts[1:] for k, texts in captions.items()}


def flickr_dev(shared_data: Path) -> dict[str, list[str]]:
    folder = shared_data / "flickr8k/Flickr8k_text"
    dev = set((folder / "Flickr_8k.devImages.txt").read_text(encoding="utf-8").split())
    captions: dict[str, list[str]] = defaultdict(list)
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition("\t")
        if name.split("#")[0] in dev:
            captions[name.split("#")[0]].append(caption)
    return captions


def coco_val(shared_data: Path) -> dict[int, list[str]]:
    content = json.loads((shared_data / "coco/annotations/captions_val2017.json").read_text(encoding="utf-8"))
    captions: dict[int, list[str]] = defaultdict(list)
    for entry in content["annotations"]:
        captions[entry["image_id"]].append(entry["caption"])
    return captions


@pytest.mark.parametrize(("read", "photographs"), [(flickr_dev, 1000), (coco_val, 5000)])
def test_equals_the_official_scorers(
    read: Callable[[Path], dict[Any, list[str]]], photographs: int, shared_data: Path
) -> None:
    official_scorers.require_java()
    candidates, references = one_against_the_rest(read(shared_data))
    ours = score_captions(candidates, references, intervals=False, meteor=False)
    assert ours.photographs == photographs
    assert ours.scores == pytest.approx(official_scorers.scores(candidates, references), abs=1e-6)


def test_meteor_equals_the_official_scorer(shared_data: Path) -> None:
    official_scorers.require_java()
    if meteor.why_not() is not None:
        pytest.skip(f"METEOR {meteor.why_not()}")
    from pycocoevalcap.meteor.meteor import Meteor

    candidates, references = one_against_the_rest(dict(list(flickr_dev(shared_data).items())[:150]))
    ours = score_captions(candidates, references, resamples=100)
    wanted = official_scorers.tokenize(references)
    given = official_scorers.tokenize({key: [caption] for key, caption in candidates.items()})
    scorer = Meteor()
    theirs, _ = scorer.compute_score(wanted, given)
    with scorer.meteor_p:  # closes its pipes, which ends it
        pass
    assert ours.scores["METEOR"] == pytest.approx(theirs, abs=1e-6)
    low, high = ours.intervals["METEOR"]
    assert low < theirs < high


def test_cheap_enough_to_validate_every_epoch(shared_data: Path) -> None:
    candidates, captions = one_against_the_rest(flickr_dev(shared_data))
    references = References(captions)
    quick_cider(candidates, references)  # counts the references
    work: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, argument: work.update([event]))
    try:
        quick_cider(candidates, references)
    finally:
        sys.setprofile(None)
    # A quarter of it is needed; counting the references again takes five times as much.
    assert work["call"] + work["c_call"] < 1000 * len(candidates)
