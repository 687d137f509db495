"""Texts beside photographs, and tables in folders of splits."""

import json
from pathlib import Path

import pytest

from captionlens.datasets import read_dataset
from captionlens.errors import DatasetError
from helpers.download import small_photograph
from helpers.folders import write_files


def test_texts_beside_photographs(tmp_path: Path) -> None:
    root = write_files(
        tmp_path,
        {
            "train/1.jpg": small_photograph(1),
            "train/1.txt": "\ufeffa red circle\r\n\r\n a circle \r\n",
            "val/1.jpg": small_photograph(2),
            "val/1.txt": "a square",
            "holiday/ b.PNG": small_photograph(3),
            "holiday/ b.txt": "not sure: a dog\na blue square",
            "c.jpg": small_photograph(4),
            "c.txt": b"gr\xfcn\n",
            "d.jpg": small_photograph(5),
            "e.jpg": small_photograph(6),
            "e.txt": "\n",
            "README.txt": "about these",
            ".thumbnails/1.jpg": small_photograph(1),
            ".thumbnails/1.txt": "small",
            "._1.jpg": b"of another program",
        },
    )
    dataset = read_dataset(root)
    assert dataset.layout == "texts"
    found = {record.source_id: (record.split, record.captions) for record in dataset.records}
    assert found["train/1.jpg"] == ("train", ("a red circle", "a circle"))
    assert found["val/1.jpg"] == ("val", ("a square",))
    assert found["holiday/ b.PNG"][1] == ("a blue square",)
    assert len(found) == 3
    assert sorted((problem.kind, Path(problem.where.partition(":")[0]).name) for problem in dataset.problems) == [
        ("empty-caption", "e.txt"),
        ("malformed", "c.txt"),
        ("no-caption", "c.txt"),
    ]
    assert "photographs without a text beside them: 1" in dataset.notes
    assert "captions that a captioner was not sure of, left out: 1" in dataset.notes


def test_what_captionlens_writes_beside_photographs_is_read(tmp_path: Path) -> None:
    from captionlens.outputs.sidecar import write_sidecar
    from captionlens.runtime.caption import Caption

    write_files(tmp_path, {"a.jpg": small_photograph(1), "b.jpg": small_photograph(2)})
    write_sidecar(tmp_path / "a.jpg", Caption("a dog"), "txt")
    write_sidecar(tmp_path / "b.jpg", Caption("a cat", unsure=True), "txt")
    (record,) = read_dataset(tmp_path).records
    assert (record.image.name, record.captions) == ("a.jpg", ("a dog",))


def test_tables_in_folders_of_splits(tmp_path: Path) -> None:
    rows = [{"file_name": "0.jpg", "text": "a circle"}, {"file_name": "more/1.jpg", "text": "a square"}]
    write_files(
        tmp_path,
        {
            "train/metadata.jsonl": "\n".join(map(json.dumps, rows)),
            "train/0.jpg": small_photograph(1),
            "train/more/1.jpg": small_photograph(2),
            "validation/metadata.csv": "file_name,text\n0.jpg,a triangle\n../train/0.jpg,stolen\n",
            "validation/0.jpg": small_photograph(3),
            "others/metadata.csv": "file_name,text\n0.jpg,of no split\n",
        },
    )
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "imagefolder"
    assert [(record.source_id, record.split, record.captions) for record in dataset.records] == [
        ("train/0.jpg", "train", ("a circle",)),
        ("train/more/1.jpg", "train", ("a square",)),
        ("validation/0.jpg", "val", ("a triangle",)),
    ]


def test_a_folder_of_photographs_alone_is_no_data_set(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.jpg": small_photograph(1), "notes.txt": "nothing"})
    with pytest.raises(DatasetError, match=r"no known layout\. .*texts: photographs with text files"):
        read_dataset(tmp_path)
