"""Parquet with photographs in it."""

import sys
from pathlib import Path
from typing import Any

import pytest

from captionlens.datasets import TableForm, read_dataset
from captionlens.datasets.packed_writing import unpack_dataset
from captionlens.errors import DatasetError, MissingExtra
from helpers.cli import run_cli
from helpers.download import small_photograph
from helpers.folders import write_files
from helpers.packed import arrow, files_below, found, image, write_parquet


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    write_parquet(
        hub / "data" / "train-00000-of-00002.parquet",
        [{"image": image(n, f"{n}.jpg"), "caption": [f"a {n}", f"the {n}"], "extra": 1} for n in range(5)],
    )
    write_parquet(hub / "data" / "train-00001-of-00002.parquet", [{"image": image(5), "caption": ["a 5"]}])
    write_parquet(
        hub / "data" / "validation-00000-of-00001.parquet", [{"image": image(6, "x/y.png"), "caption": ["a 6"]}]
    )
    write_files(hub, {"README.md": "# A data set", "dataset_infos.json": "{}", ".git/x.parquet": "no"})
    for place in (hub, hub / "data" / "train-00001-of-00002.parquet"):
        with pytest.raises(DatasetError, match=rf"packed \(.*\): unpack them by captionlens data unpack {place} DIR"):
            read_dataset(place)
    done = unpack_dataset(hub, tmp_path / "to")
    assert (done.photographs, done.captions, done.repeated, done.problems, done.failed) == (7, 12, 0, (), ())
    assert found(tmp_path / "to") == {
        **{f"data/train-00000-of-00002/{n}.jpg": ("train", (f"a {n}", f"the {n}")) for n in range(5)},
        "data/train-00001-of-00002/000001.jpg": ("train", ("a 5",)),
        "data/validation-00000-of-00001/x/y.png": ("val", ("a 6",)),
    }
    assert (tmp_path / "to/images/data/train-00000-of-00002/3.jpg").read_bytes() == small_photograph(3)
    before = files_below(tmp_path / "to")
    assert unpack_dataset(hub, tmp_path / "to") == done
    assert files_below(tmp_path / "to") == before


def test_a_link_of_hugging_faces_cache_to_a_file_without_a_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "blobs" / "5f3a", [{"image": image(0), "text": "a circle"}])
    link = tmp_path / "snapshots" / "test-00000-of-00001.parquet"
    link.parent.mkdir()
    link.symlink_to("../blobs/5f3a")
    unpack_dataset(link, tmp_path / "to")
    assert found(tmp_path / "to") == {"test-00000-of-00001/000001.jpg": ("test", ("a circle",))}


@pytest.mark.parametrize("text", ["caption", "text"])
@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary", "names"])
def test_photographs_as_structs_as_bytes_and_as_names(kind: str, text: str, tmp_path: Path) -> None:
    write_files(tmp_path / "in", {f"photos/{n}.jpg": small_photograph(n) for n in range(2)})
    types = {"struct": arrow.struct({"bytes": arrow.binary(), "path": arrow.string()}), "names": arrow.string()}
    types |= {"binary": arrow.binary(), "large_binary": arrow.large_binary()}
    values: list[Any] = [image(0)["bytes"], image(1)["bytes"]]
    if kind == "struct":
        values = [image(0), {"bytes": None, "path": "photos/1.jpg"}]
    elif kind == "names":
        values = [f"photos/{n}.jpg" for n in range(2)]
    rows = [{"image": value, text: "a circle", "split": "dev", "id": n} for n, value in enumerate(values)]
    schema = arrow.schema({"image": types[kind], text: arrow.string(), "split": arrow.string(), "id": arrow.int32()})
    write_parquet(tmp_path / "in" / "train.parquet", rows, schema)
    assert unpack_dataset(tmp_path / "in", tmp_path / "to").problems == ()
    dataset = read_dataset(tmp_path / "to")
    assert [(r.source_id, r.split, r.captions) for r in dataset.records] == [
        ("0", "val", ("a circle",)),
        ("1", "val", ("a circle",)),
    ]
    assert [record.image.read_bytes() for record in dataset.records] == [small_photograph(0), small_photograph(1)]


def test_columns_of_parquet(tmp_path: Path) -> None:
    rows = [{"image": image(0), "file_name": "0.jpg", "caption_0": "a", "caption_1": "b", "answer": ["c"]}]
    file = write_parquet(tmp_path / "in.parquet", rows)
    unpack_dataset(file, tmp_path / "numbered")
    assert read_dataset(tmp_path / "numbered").records[0].captions == ("a", "b")
    unpack_dataset(file, tmp_path / "named", form=TableForm(columns={"caption": "answer"}))
    assert read_dataset(tmp_path / "named").records[0].captions == ("c",)
    done = unpack_dataset(file, tmp_path / "none", form=TableForm(columns={"image": "img"}))
    assert [str(error) for error in done.failed] == [
        f"{file}: no column 'img'; its columns: image, file_name, caption_0, caption_1, answer"
    ]


def test_rows_that_cannot_be_used_are_told_and_cost_no_others(tmp_path: Path) -> None:
    (tmp_path / "outside.jpg").write_bytes(small_photograph(9))
    photographs: list[Any] = [image(n, f"{n}.jpg") for n in range(12)]
    paths = ["https://example.org/1.jpg", "gone.jpg", "../outside.jpg", str(tmp_path / "outside.jpg"), None]
    photographs += [{"bytes": None, "path": path} for path in paths] + [None]
    rows = [{"image": value, "caption": "a circle"} for value in photographs]
    rows += [{"image": image(12), "caption": None}, {"image": image(13), "caption": "['one' 'two']"}]
    file = write_parquet(tmp_path / "in" / "0.parquet", rows)
    done = unpack_dataset(tmp_path / "in", tmp_path / "to")
    assert done.photographs == 13
    absolute = str(tmp_path / "outside.jpg")
    assert [(problem.where.removeprefix(f"{file}, "), problem.cause) for problem in done.problems] == [
        ("row 13", "the photograph is an address, and nothing is downloaded from there: https://example.org/1.jpg"),
        ("row 14", "photograph gone.jpg is absent"),
        ("row 15", "photograph '../outside.jpg' leads out of the data set's folder"),
        ("row 16", f"photograph {absolute!r} leads out of the data set's folder"),
        ("row 17", "no photograph"),
        ("row 18", "no photograph"),
        ("row 20", "begins as a list of captions, and is none that JSON or Python reads"),
    ]
    dataset = read_dataset(tmp_path / "to")
    assert len(dataset.records) == 12
    assert [problem.kind for problem in dataset.problems] == ["empty-caption"]


def test_a_file_of_addresses_is_refused(tmp_path: Path) -> None:
    rows = [{"image": f"http://example.org/{n}.jpg", "caption": "a dog"} for n in range(11)]
    write_parquet(tmp_path / "in" / "0.parquet", rows)
    result = run_cli("data", "unpack", tmp_path / "in", tmp_path / "to", code=1)
    assert "11 of its entries cannot be used, 0 can: the photograph is an address" in result.stderr


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_parquet(tmp_path / "0.parquet", [{"image": image(0), "caption": "a dog"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'captionlens\[parquet\]'"):
        unpack_dataset(file, tmp_path / "to")
    assert not (tmp_path / "to").exists()
