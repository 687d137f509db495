"""docs/architecture.md: its tables are those of the code, and its example does what it says."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import run_cli
from helpers.paths import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "architecture.md"


def test_the_tables_of_files_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    from importlib import import_module

    rooms = import_module("rooms")
    document = DOCUMENT.read_text("utf-8")
    assert rooms.renewed(document) == document, "python docs/rooms.py writes them anew"
    assert "captioner.py" in document
    sys.modules.pop("rooms")


def test_a_network_of_ones_own_is_captioned_with_evaluated_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    run_cli("data", "scenes", "shapes", "--images", "120", "--quiet")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["caption"].text == "a red circle"
    assert names["report"]["scores"]["CIDEr-D"] > 0
    grounding = names["report"]["grounding"]
    assert grounding["attention_correctness"] > 2 * grounding["uniform"]  # shapes are the colourful part
