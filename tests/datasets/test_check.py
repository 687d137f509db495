"""`check_dataset` and `captionlens data check`."""

import json
from pathlib import Path

import pytest

from captionlens.datasets import read_dataset
from captionlens.datasets.check import check_dataset
from captionlens.errors import OptionError
from helpers.cli import run_cli
from helpers.download import make_small_coco2014, serve, small_photograph


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good photographs, one cut off, one that is none, one twice, one caption too long."""
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(small_photograph(number))
    (tmp_path / "cut.jpg").write_bytes(small_photograph(5)[:-300])
    (tmp_path / "text.jpg").write_text("not a photograph")
    (tmp_path / "again.jpg").write_bytes(small_photograph(0))
    rows = ["image,caption,split"]
    rows += [f"{number}.jpg,a dog runs,train" for number in range(3)]
    rows += [
        "3.jpg,a dog sleeps soundly and a dog snores,val",
        "again.jpg,a dog,val",
        "2.jpg," + "very " * 51 + ",train",
    ]
    rows += ["cut.jpg,x,train", "text.jpg,x,train", "gone.jpg,x,train", "1.jpg,,train"]
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    return tmp_path


def test_everything_that_is_wrong_is_found(folder: Path) -> None:
    report = check_dataset(read_dataset(folder), workers=2)
    assert not report.ok
    assert report.counts() == {
        "absent-image": 1,
        "empty-caption": 1,
        "in-two-splits": 1,
        "overlong-caption": 1,
        "unreadable-image": 2,
    }
    causes = {(Path(problem.where).name, problem.kind): problem.cause for problem in report.problems}
    assert "truncated" in causes["cut.jpg", "unreadable-image"]
    assert ("text.jpg", "unreadable-image") in causes
    assert causes["0.jpg", "in-two-splits"] == "the same photograph (train) as again.jpg (val)"
    assert causes["2.jpg", "overlong-caption"].startswith("a caption of 51 words: very very")
    assert report.photographs == {"train": 5, "val": 2, "test": 0}
    assert report.captions == {"train": 6, "val": 2, "test": 0}
    assert report.feature_bytes == 7 * 81 * 1280 * 2


def test_words_the_vocabulary_will_not_cover(folder: Path) -> None:
    coverage = check_dataset(read_dataset(folder)).coverage
    assert coverage is not None
    # val: a dog sleeps soundly and a dog snores / a dog; train knows a, dog, runs, very, x
    assert (coverage.split, coverage.words, coverage.unknown, coverage.train_words) == ("val", 10, 4, 5)
    assert set(coverage.examples) == {"sleeps", "soundly", "and", "snores"}
    assert coverage.unknown_share == 0.4
    smallest = check_dataset(read_dataset(folder), vocabulary_size=1).coverage
    assert smallest is not None
    assert smallest.unknown == 10  # "very", 51 times in train, is all that is known


def test_a_fine_data_set(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(small_photograph(number))
    (tmp_path / "t.csv").write_text("image,caption,split\n0.jpg,a,train\n1.jpg,a,val\n2.jpg,a,test\n")
    report = check_dataset(read_dataset(tmp_path), bytes_per_photograph=10)
    assert report.ok
    assert report.feature_bytes == 20  # training does not ask for test's features
    assert "no problems" in report.to_text()
    result = run_cli("data", "check", tmp_path)
    assert result.stderr == ""
    assert "train          1 photographs          1 captions" in result.stdout


def test_senseless_options(folder: Path) -> None:
    with pytest.raises(OptionError, match="workers must be at least 1, got 0"):
        check_dataset(read_dataset(folder), workers=0)


def test_duplicates_within_one_split(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(small_photograph(1))
    (tmp_path / "t.csv").write_text("image,caption,split\na.jpg,a,val\nb.jpg,a,val\nc.jpg,a,val\n")
    (problem,) = check_dataset(read_dataset(tmp_path)).problems
    assert (problem.kind, problem.count) == ("duplicate-image", 2)


def test_duplicates_and_photographs_without_a_row_are_told(tmp_path: Path) -> None:
    for number, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        (tmp_path / name).write_bytes(small_photograph(number))
    (tmp_path / "t.csv").write_text("image,caption,split\na.jpg,a,train\na.jpg, a ,train\nb.jpg,a,val\n")
    result = run_cli("data", "check", tmp_path)
    assert "note: photographs beside the named ones, in no row or entry: 1, e.g. c.jpg" in result.stdout
    assert "note: 1 captions are there twice for one photograph, and count once" in result.stdout


def test_check_command_names_each_problem(folder: Path) -> None:
    result = run_cli("data", "check", folder, "--quiet", code=1)
    lines = result.stderr.splitlines()
    assert len(lines) == 6
    assert sum(line.startswith(f"{folder / 'text.jpg'}: ") for line in lines) == 1
    assert "unreadable-image: 2" in result.stdout


def test_check_command_as_json(folder: Path) -> None:
    result = run_cli("data", "check", folder, "--json", "--max-captions", "2", "--seed", "3", code=1)
    report = json.loads(result.stdout)
    assert report["splits"]["train"]["captions"] == 2
    assert report["counts"]["absent-image"] == 1
    assert report["ok"] is False
    assert {"kind", "where", "cause", "count"} == set(report["problems"][0])


def test_check_command_downloads_a_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_small_coco2014(tmp_path / "mirror", images=6)
    monkeypatch.setenv("CAPTIONLENS_DATA_HOME", str(tmp_path / "home"))
    with serve(tmp_path / "mirror") as url:
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        result = run_cli("data", "check", "coco2014", "--json")
    assert json.loads(result.stdout)["splits"]["train"] == {"photographs": 4, "captions": 20}


def test_wrong_usage() -> None:
    run_cli("data", "check", code=2)
    run_cli("data", "check", "x", "--max-captions", "0", code=2)
    run_cli("data", "download", "coco2014", code=2)


def test_real_coco_photographs_decode(shared_data: Path) -> None:
    report = check_dataset(read_dataset(shared_data / "coco"))
    assert report.counts() == {"absent-image": 4_841}
    assert report.photographs["val"] == 159
    assert report.coverage is None
