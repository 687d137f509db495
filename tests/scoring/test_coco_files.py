"""COCO's caption formats, and the command that scores them."""

import json
from pathlib import Path
from typing import Any

import pytest

from captionlens.errors import DatasetError
from captionlens.scoring.coco_files import (
    read_pair,
    read_references,
    read_results,
    write_references,
    write_results,
)
from captionlens.scoring.scores import Scores, score_captions
from helpers.cli import run_cli

CANDIDATES: dict[int | str, str] = {7: "a dog runs", 9: "ein Bär läuft", "n": "a cat"}
REFERENCES: dict[int | str, list[str]] = {
    7: ["a dog runs fast", "the dog"],
    9: ["ein Bär"],
    "n": ["a cat"],
    11: ["nobody captioned me"],
}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    results, references = tmp_path / "results.json", tmp_path / "references.json"
    write_results(results, CANDIDATES)
    write_references(references, REFERENCES)
    return results, references


def score_files(results: Path, references: Path, **options: Any) -> Scores:
    captions, wanted, _ = read_pair(results, references)
    return score_captions(captions, wanted, **options)


def test_written_files_are_read_back(pair: tuple[Path, Path]) -> None:
    assert read_results(pair[0]) == CANDIDATES
    assert read_references(pair[1]) == REFERENCES
    content = json.loads(pair[1].read_text(encoding="utf-8"))
    assert [image["id"] for image in content["images"]] == list(REFERENCES)
    assert sorted(path.name for path in pair[0].parent.iterdir()) == ["references.json", "results.json"]


def test_scores_the_photographs_of_the_results(pair: tuple[Path, Path]) -> None:
    scores = score_files(*pair, intervals=False, meteor=False)
    wanted = {key: REFERENCES[key] for key in CANDIDATES}
    assert scores == score_captions(CANDIDATES, wanted, intervals=False, meteor=False)
    assert scores.photographs == 3


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("[", "is not JSON"),
        ("\udcff", "is not JSON"),
        ("{}", "want a list of captions, got an object"),
        ("[]", "has no captions"),
        ("[3]", "entry 0: want an object, got 3"),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": 2}]', "entry 1 has no 'caption'"),
        ('[{"caption": "a"}]', "entry 0 has no 'image_id'"),
        ('[{"image_id": 1.5, "caption": "a"}]', "image_id must be a number or a name, got 1.5"),
        ('[{"image_id": true, "caption": "a"}]', "image_id must be"),
        ('[{"image_id": 1, "caption": null}]', "entry 0: caption must be a text, got null"),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]', "entry 1: a second caption"),
    ],
)
def test_bad_results_name_file_and_cause(content: str, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DatasetError) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert cause in str(caught.value)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("[]", "want an object with annotations, got a list"),
        ('{"images": []}', "has no 'annotations'"),
        ('{"annotations": {}}', "'annotations' must be a list, got an object"),
        ('{"annotations": []}', "has no captions"),
        ('{"annotations": [{"image_id": 1}]}', "annotation 0 has no 'caption'"),
    ],
)
def test_bad_references_name_file_and_cause(content: str, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        read_references(path)
    assert cause in str(caught.value)


def test_missing_file_and_unknown_ids(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        read_results(tmp_path / "none.json")
    write_results(pair[0], {**CANDIDATES, 404: "who?"})
    with pytest.raises(DatasetError, match=r"1 image_ids are not in .*references\.json: 404"):
        score_files(*pair)


def test_command_writes_a_report_and_a_table(pair: tuple[Path, Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    outcome = run_cli("score", *pair, "-o", report, "--no-meteor", "--resamples", "50")
    scores = score_files(*pair, meteor=False, resamples=50)
    content = json.loads(report.read_text(encoding="utf-8"))
    assert content["scores"] == scores.scores
    assert content["intervals"] == {name: list(bounds) for name, bounds in scores.intervals.items()}
    assert content["photographs"] == 3
    lines = outcome.stdout.splitlines()
    low, high = scores.intervals["CIDEr-D"]
    value = scores.scores["CIDEr-D"]
    assert lines[-1].split() == ["CIDEr-D", f"{100 * value:.2f}", f"[{100 * low:.2f},", f"{100 * high:.2f}]"]
    assert "1 photographs have no caption" in outcome.stderr


def test_command_quietly_without_intervals(pair: tuple[Path, Path]) -> None:
    outcome = run_cli("score", *pair, "--no-intervals", "--no-meteor", "--quiet")
    assert outcome.stderr == ""
    assert "[" not in outcome.stdout
    assert outcome.stdout.splitlines()[1].startswith("BLEU-1")
