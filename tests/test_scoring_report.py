"""Reports of an evaluation, read back for the model card."""

import json
from pathlib import Path

import pytest

from captionlens.errors import FileError
from captionlens.scoring.report import read_report

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
