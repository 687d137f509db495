"""Reports of an evaluation, read back for the model card."""

import json
from pathlib import Path

import pytest

from captionlens.errors import FileError
from captionlens.scoring.report import read_report
from captionlens.training.card import model_card

REPORT = {"dataset": "d", "split": "val", "photographs": 1, "decoding": {}, "scores": {}, "intervals": {}}


def test_report_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    assert read_report(tmp_path / "report.json") == REPORT


@pytest.mark.parametrize("content", [None, "{", "[]", '{"scores": {"CIDEr-D": 1}}'])
def test_other_files_are_refused_by_name(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FileError, match=r"other\.json: "):
        read_report(path)


@pytest.mark.parametrize(
    ("keep", "split", "chosen"), [("best", "val", True), ("best", "test", False), ("last", "val", False)]
)
def test_card_says_whether_the_scores_chose_the_epoch(keep: str, split: str, chosen: bool, small_model: Path) -> None:
    config = json.loads((small_model / "config.json").read_text())
    report = REPORT | {"split": split, "scores": {"CIDEr-D": 0.5}, "decoding": {"beam": 3, "length_penalty": 0.7}}
    card = model_card(config | {"training": config["training"] | {"keep": keep}, "evaluation": report})
    assert "| CIDEr-D | 50.0 |" in card
    assert ("which also chose the epoch" in card) == chosen
