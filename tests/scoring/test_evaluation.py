"""Reports of an evaluation, read back for the model card."""

import json
from pathlib import Path

import pytest

from captionlens.errors import FileError
from captionlens.export.card import model_card
from captionlens.scoring.evaluation import read_reports

REPORT = {"dataset": "d", "split": "val", "photographs": 1, "decoding": {}, "scores": {}, "intervals": {}}


def test_report_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    assert read_reports(tmp_path / "report.json") == [REPORT]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"scores": {"CIDEr-D": 1}}'])
def test_other_files_are_refused_by_name(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FileError, match=r"other\.json: "):
        read_reports(path)


@pytest.mark.parametrize(
    ("keep", "split", "chosen"), [("best", "val", True), ("best", "test", False), ("last", "val", False)]
)
def test_card_says_whether_the_scores_chose_the_epoch(keep: str, split: str, chosen: bool, small_model: Path) -> None:
    config = json.loads((small_model / "config.json").read_text())
    report = REPORT | {"split": split, "scores": {"CIDEr-D": 0.5}, "decoding": {"beam": 3, "length_penalty": 0.7}}
    card = model_card(config | {"training": config["training"] | {"keep": keep}, "evaluations": [report]})
    assert "| CIDEr-D | 50.0 |" in card
    assert ("which also chose the epoch" in card) == chosen


def test_card_shows_where_it_looks_and_whether_that_mattered(small_model: Path) -> None:
    config = json.loads((small_model / "config.json").read_text())
    scored = {
        "phrases": 1234,
        "attention_correctness": 0.612,
        "pointing_game": 0.723,
        "uniform": 0.296,
        "centre": 0.536,
    }
    report = REPORT | {
        "decoding": {"beam": 3, "length_penalty": 0.7},
        "grounding": {**scored, "own_captions": {"phrases": 0}},
        "faithfulness": {"words": 321, "words_are": "nouns", "falls_more": 0.834},
    }
    card = model_card(config | {"evaluations": [report]}, "## What it is bad at\n\nCups.\n")
    assert "| phrases of reference captions | 1234 | 61.2 | 29.6 | 72.3 | 53.6 |" in card
    assert "| nouns of its own captions" not in card  # there were none
    assert "83.4 % of\n321 nouns" in card
    assert card.endswith("\n## What it is bad at\n\nCups.\n")
    assert "frozen" in card
    tuned = config["training"] | {"finetune_blocks": 6}
    assert "its last 6 blocks trained further" in model_card(config | {"training": tuned})
