"""Raw files in folders, with the package that reads them and without."""

import sys
from pathlib import Path

import pytest

from helpers.cli import run_cli
from helpers.images import encoded, quadrants
from helpers.raw import dng


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A photograph as JPEG and as raw file, and another one that is raw only."""
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(encoded(quadrants(64, 48), "JPEG"))
    (folder / "a.DNG").write_bytes(dng(quadrants(64, 48)))
    (folder / "b.dng").write_bytes(dng(quadrants(64, 48)))
    (folder / "._b.dng").write_bytes(b"of another program")
    return folder


def test_raw_files_are_captioned_and_never_share_a_sidecar(pairs: Path, small_model: Path) -> None:
    pytest.importorskip("rawpy")
    result = run_cli("caption", "--model", small_model, "--threads", "1", "--sidecar", "txt", pairs)
    assert result.stderr == "captionlens: left out: hidden files: 1\n"
    assert [line.partition("\t")[0] for line in result.stdout.splitlines()] == [
        str(pairs / name) for name in ("a.DNG", "a.jpg", "b.dng")
    ]
    sidecars = {path.name: path.read_text("utf-8") for path in pairs.glob("*.txt")}
    assert sidecars.keys() == {"a.jpg.txt", "a.DNG.txt", "b.txt"}
    # The previews are JPEGs of the same picture.
    assert len(set(sidecars.values())) == 1
    again = run_cli("caption", "--model", small_model, "--threads", "1", "--sidecar", "txt", pairs)
    assert "3 of 3 photographs are captioned already" in again.stderr


def test_a_raw_file_that_was_not_captioned_keeps_its_sidecar(
    pairs: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    result = run_cli("caption", "--model", small_model, "--threads", "1", "--sidecar", "txt", pairs)
    assert result.stderr == (
        "captionlens: left out: raw photographs (pip install 'captionlens[raw]' to read them): 2, hidden files: 1\n"
    )
    assert sorted(path.name for path in pairs.glob("*.txt")) == ["a.jpg.txt"]
    result = run_cli("caption", "--model", small_model, "--threads", "1", pairs / "b.dng", pairs / "a.jpg", code=1)
    cause = "is a raw photograph, which another package reads: pip install 'captionlens[raw]'"
    assert f"captionlens: {pairs / 'b.dng'}: {cause}\n" in result.stderr
    assert result.stdout.count("\n") == 1
