"""Several data sets at once: one subset of captions, names and photographs kept apart, checked against each other."""

import json
from pathlib import Path

import pytest

from captionlens.datasets import read_dataset
from captionlens.datasets.check import check_datasets
from captionlens.datasets.several import read_datasets, split_of, titles
from captionlens.errors import OptionError
from captionlens.features.store import photograph_key
from helpers.cli import run_cli
from helpers.download import small_photograph


def write_table(folder: Path, rows: dict[str, tuple[bytes, str]]) -> Path:
    """A table of photographs: by name their bytes and split, each with a caption of the folder's and its own name."""
    folder.mkdir(parents=True)
    lines = ["image,caption,split"]
    for name, (content, split) in rows.items():
        (folder / name).write_bytes(content)
        lines.append(f"{name},a {folder.parent.name} {Path(name).stem},{split}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two data sets of one name, whose photographs have the same names; the second has no val."""
    same = small_photograph(3)
    first = write_table(
        tmp_path / "one" / "pictures",
        {"a.jpg": (small_photograph(1), "train"), "b.jpg": (same, "train"), "c.jpg": (small_photograph(2), "val")},
    )
    other = bytearray(small_photograph(1))
    other[-1:] = b"\xd8"  # as many bytes, and not the same
    second = write_table(tmp_path / "two" / "pictures", {"a.jpg": (bytes(other), "train"), "b.jpg": (same, "test")})
    return first, second


def test_one_data_set_is_read_as_ever(pair: tuple[Path, Path]) -> None:
    assert read_datasets([pair[0]]) == (read_dataset(pair[0]),)
    assert read_datasets([pair[0]], max_captions=1, seed=2) == (read_dataset(pair[0], max_captions=1, seed=2),)


def test_names_and_photographs_are_kept_apart(pair: tuple[Path, Path]) -> None:
    first, second = read_datasets(pair)
    assert titles([first, second]) == "pictures and pictures-2"
    assert [record.source_id for record in first.records] == ["a.jpg", "b.jpg", "c.jpg"]
    # Where bytes are the same, so is the photograph, and its features serve both.
    assert [record.source_id for record in second.records] == ["pictures-2/a.jpg", "b.jpg"]
    keys = {photograph_key(record) for dataset in (first, second) for record in dataset.records}
    assert len(keys) == 4


def test_splits_of_those_that_have_them(pair: tuple[Path, Path]) -> None:
    both = read_datasets(pair)
    assert [len(records) for records in split_of(both, "train")] == [2, 1]
    assert [len(records) for records in split_of(both, "dev")] == [1, 0]
    assert [len(records) for records in split_of(both, "test")] == [0, 1]
    with pytest.raises(OptionError, match="has no split 'test'"):
        split_of(both[:1], "test")


def test_captions_of_all_are_limited_together(tmp_path: Path) -> None:
    for name in ("x", "y"):
        rows = {f"{number}.jpg": (small_photograph(number), "train") for number in range(20)}
        write_table(tmp_path / name, rows | {"v.jpg": (small_photograph(99), "val")})
    paths = [tmp_path / "x", tmp_path / "y"]
    drawn = read_datasets(paths, max_captions=11, seed=3)
    counts = [len(records) for records in split_of(drawn, "train")]
    assert sum(counts) == 11
    assert min(counts) > 0
    assert drawn == read_datasets(paths, max_captions=11, seed=3)
    assert drawn != read_datasets(paths, max_captions=11, seed=4)
    assert [len(records) for records in split_of(drawn, "val")] == [1, 1]
    assert "of 11 of all data sets (seed 3)" in drawn[0].notes[-1]


def test_what_makes_no_sense_is_refused(pair: tuple[Path, Path]) -> None:
    with pytest.raises(OptionError, match="once for each: 2, not 3"):
        read_datasets(pair, layouts=["table"] * 3)
    with pytest.raises(OptionError, match="is named 2 times"):
        read_datasets([pair[0], pair[1], pair[0] / ".." / "pictures"])


def test_layouts_are_those_of_each(pair: tuple[Path, Path]) -> None:
    assert [dataset.layout for dataset in read_datasets(pair, layouts=["table"])] == ["table", "table"]
    assert read_datasets(pair, layouts=["table", "table"]) == read_datasets(pair)


def test_photographs_in_two_data_sets_are_reported(pair: tuple[Path, Path]) -> None:
    reports, (shared,) = check_datasets(read_datasets(pair))
    assert [report.name for report in reports] == ["pictures", "pictures-2"]
    assert (shared.kind, Path(shared.where).name) == ("in-two-splits", "b.jpg")
    assert shared.cause == "the same photograph (test) as b.jpg of pictures (train)"
    coverage = reports[0].coverage
    assert coverage is not None
    assert coverage.train_words == 4  # a, one, b, two: of both data sets


def test_check_command_on_several(pair: tuple[Path, Path]) -> None:
    result = run_cli("data", "check", *pair, "--quiet", code=1)
    assert "photographs in two data sets: 1" in result.stdout
    assert result.stderr.count("the same photograph") == 1
    report = json.loads(run_cli("data", "check", *pair, "--json", code=1).stdout)
    assert report["ok"] is False
    assert [part["name"] for part in report["datasets"]] == ["pictures", "pictures-2"]
    assert [problem["kind"] for problem in report["shared"]] == ["in-two-splits"]
