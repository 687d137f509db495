"""Every layout on tiny files, and the two real data sets."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from captionlens.datasets import Dataset, count_captions, read_dataset
from captionlens.errors import DatasetError, OptionError
from helpers.download import captions_json, small_photograph


def photographs(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(small_photograph(number))


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def by_name(dataset: Dataset) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {record.image.name: (record.split, record.captions) for record in dataset.records}


def coco_folder(root: Path, year: str) -> Path:
    number = 0
    for split in ("train", "val"):
        name = "COCO_{}2014_{:012d}.jpg" if year == "2014" else "{1:012d}.jpg"
        images = []
        for _ in range(3):
            number += 1
            images.append((number, name.format(split, number)))
        write_json(root / "annotations" / f"captions_{split}{year}.json", captions_json(images))
        photographs(root / f"{split}{year}", *[name for _, name in images])
    return root


# COCO


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_coco(tmp_path: Path, year: str) -> None:
    dataset = read_dataset(coco_folder(tmp_path, year))
    assert dataset.layout == "coco"
    assert dataset.split_sizes() == {"train": 3, "val": 3, "test": 0}
    first = dataset.records[0]
    assert first.source_id == "1"
    assert first.image == tmp_path / f"train{year}" / first.image.name
    assert first.captions == (
        "a green circle",
        "A green circle.",
        "there is a green circle",
        "one green circle on grey",
        "a picture of a green circle",
    )
    assert dataset.problems == ()
    assert dataset.notes == ()


def test_coco_with_val_only_is_read_as_it_is(tmp_path: Path) -> None:
    root = coco_folder(tmp_path, "2017")
    (root / "annotations" / "captions_train2017.json").unlink()
    dataset = read_dataset(root)
    assert dataset.split_sizes() == {"train": 0, "val": 3, "test": 0}
    assert read_dataset(root / "annotations" / "captions_val2017.json").records == dataset.records


def test_one_train_file_gives_part_of_it_to_val(tmp_path: Path) -> None:
    root = coco_folder(tmp_path, "2014")
    dataset = read_dataset(root / "annotations" / "captions_train2014.json")
    assert dataset.split_sizes() == {"train": 2, "val": 1, "test": 0}
    assert dataset.notes == ("there was no val split: 1 of 3 train photographs became val (seed 1)",)


def test_coco_of_two_years_must_be_told_apart(tmp_path: Path) -> None:
    coco_folder(coco_folder(tmp_path, "2014"), "2017")
    with pytest.raises(DatasetError, match="coco2014 or coco2017"):
        read_dataset(tmp_path)
    told = read_dataset(tmp_path, layout="coco2017")
    assert {record.image.parent.name for record in told.records} == {"train2017", "val2017"}
    for split in ("train2014", "val2014"):
        (tmp_path / split).rename(tmp_path / f"no_{split}")
    assert read_dataset(tmp_path).records == told.records


def test_coco_problems_are_counted_and_named(tmp_path: Path) -> None:
    root = coco_folder(tmp_path, "2017")
    file = root / "annotations" / "captions_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["caption"] = " \n"
    content["annotations"][5]["image_id"] = 999
    content["annotations"][6]["caption"] = None
    content["annotations"][7]["caption"] = 17
    content["annotations"][8] = "?"
    content["images"] += [
        {"id": 50, "file_name": "nobody.jpg"},
        {"id": 51, "file_name": "../../evil.jpg"},
        {"file_name": "no id.jpg"},
        {"id": 52},
    ]
    content["annotations"].append({"image_id": 50, "caption": "nobody"})
    (root / "train2017" / "000000000003.jpg").unlink()
    file.write_text(json.dumps(content))
    dataset = read_dataset(root)
    told = sorted((problem.kind, problem.where.removeprefix(str(file)), problem.cause) for problem in dataset.problems)
    assert told == [
        ("absent-image", "", "photograph 000000000003.jpg is absent (5 captions left out)"),
        ("absent-image", "", "photograph nobody.jpg is absent (1 caption left out)"),
        ("empty-caption", ", annotations[0]", "empty caption of 000000000001.jpg"),
        ("empty-caption", ", annotations[6]", "empty caption of 000000000002.jpg"),
        ("malformed", ", annotations[5]", "image 999 is not among the images"),
        ("malformed", ", annotations[7]", "the caption of 000000000002.jpg is not text"),
        ("malformed", ", annotations[8]", "an annotation without image_id"),
        ("malformed", ", images[5]", "an image without id"),
        ("malformed", ", images[6]", "an image without file_name"),
        ("outside", "", "photograph '../../evil.jpg' leads out of the data set's folder"),
    ]
    assert len(dataset.split("train")) == 2


def test_many_problems_of_a_kind_are_told_in_one(tmp_path: Path) -> None:
    images = [(number, f"{number:012d}.jpg") for number in range(1, 31)]
    write_json(tmp_path / "annotations" / "captions_val2017.json", captions_json(images))
    photographs(tmp_path / "val2017", "000000000030.jpg")
    (problem,) = read_dataset(tmp_path).problems
    assert problem.count == 29
    assert problem.cause == (
        "145 captions name 29 photographs that are absent, e.g. 000000000001.jpg, 000000000002.jpg, 000000000003.jpg"
    )


def test_no_photograph_at_all(tmp_path: Path) -> None:
    write_json(tmp_path / "annotations" / "captions_val2017.json", captions_json([(1, "1.jpg")]))
    with pytest.raises(DatasetError, match=r"no photograph with a caption .*photograph 1\.jpg is absent"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('{"images": [\n  {"id": 1,}\n]}', "broken JSON at line 2, column 12"),
        ("[]", "not COCO's captions format"),
        ('{"images": []}', "no list 'annotations'"),
        ("", "broken JSON at line 1, column 1"),
        ("[" * 100_000, "unusable JSON|broken JSON"),
    ],
)
def test_broken_annotations_say_where(tmp_path: Path, content: str, cause: str) -> None:
    file = tmp_path / "annotations" / "captions_val2017.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(DatasetError, match=cause) as caught:
        read_dataset(tmp_path)
    assert caught.value.path == str(file)


def test_annotations_that_are_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "captions_val2017.json"
    file.write_bytes(b'{"images": "\xff"}')
    with pytest.raises(DatasetError, match=r"not UTF-8: .* at byte 12"):
        read_dataset(tmp_path)


def test_real_coco(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "coco")
    assert dataset.layout == "coco"
    assert dataset.split_sizes() == {"train": 0, "val": 159, "test": 0}
    assert count_captions(dataset.records) == 795
    (problem,) = dataset.problems
    assert problem.count == 5_000 - 159
    assert "24,219 captions name 4,841 photographs that are absent" in problem.cause
    assert all(record.image.is_file() for record in dataset.records)


# Karpathy


def karpathy_image(name: str, split: str, **more: Any) -> dict[str, Any]:
    sentences = [{"raw": f"A caption of {name}.", "tokens": ["a"]}, {"tokens": ["only", "tokens"]}]
    return {"filename": name, "split": split, "sentences": sentences, **more}


def test_karpathy_coco(tmp_path: Path) -> None:
    images = [
        karpathy_image("COCO_train2014_1.jpg", "train", filepath="train2014", cocoid=1),
        karpathy_image("COCO_val2014_2.jpg", "restval", filepath="val2014", cocoid=2),
        karpathy_image("COCO_val2014_3.jpg", "val", filepath="val2014", cocoid=3),
        karpathy_image("COCO_val2014_4.jpg", "test", filepath="val2014", cocoid=4),
    ]
    write_json(tmp_path / "dataset_coco.json", {"dataset": "coco", "images": images})
    photographs(tmp_path, *[f"{image['filepath']}/{image['filename']}" for image in images])
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "karpathy"
    assert [record.split for record in dataset.records] == ["train", "train", "val", "test"]
    assert [record.source_id for record in dataset.records] == ["1", "2", "3", "4"]
    assert dataset.records[0].captions == ("A caption of COCO_train2014_1.jpg.", "only tokens")


@pytest.mark.parametrize("place", ["", "images", "Flicker8k_Dataset", "Images", "flickr30k-images"])
def test_karpathy_flickr_beside_its_photographs(tmp_path: Path, place: str) -> None:
    images = [karpathy_image("1_a.jpg", "train", imgid=0), karpathy_image("2_b.jpg", "val", imgid=1)]
    file = write_json(tmp_path / "dataset_flickr8k.json", {"images": images})
    photographs(tmp_path / place, "1_a.jpg", "2_b.jpg")
    dataset = read_dataset(file)
    assert [record.source_id for record in dataset.records] == ["1_a", "2_b"]
    assert dataset.problems == ()


def test_karpathy_problems(tmp_path: Path) -> None:
    images: list[Any] = [karpathy_image(f"{n}.jpg", "train") for n in range(3)]
    images[1]["split"] = "holiday"
    images[2]["sentences"] = []
    images += ["?", karpathy_image("x.jpg", "val", filepath="../..")]
    write_json(tmp_path / "data" / "dataset_mine.json", {"images": images})
    photographs(tmp_path / "data", "0.jpg", "1.jpg", "2.jpg")
    dataset = read_dataset(tmp_path / "data")
    assert list(by_name(dataset)) == ["0.jpg"]
    assert sorted(problem.kind for problem in dataset.problems) == [
        "malformed",
        "no-caption",
        "outside",
        "split",
    ]


# Flickr8k and Flickr30k

TOKENS = (
    "1_a.jpg#0\tA dog runs .\n1_a.jpg#1\tThe dog is  running .\n"
    "2_b.jpg#0\tA cat sleeps .\n3_c.jpg#0\tTwo birds .\n4_d.jpg#0\tA fish .\n"
)


def flickr8k_folder(root: Path, tokens: str = TOKENS, photograph_folder: str = "Flicker8k_Dataset") -> Path:
    texts = root / "Flickr8k_text"
    texts.mkdir(parents=True)
    (texts / "Flickr8k.token.txt").write_text(tokens)
    (texts / "Flickr_8k.trainImages.txt").write_text("1_a.jpg\n")
    (texts / "Flickr_8k.devImages.txt").write_text("2_b.jpg\n")
    (texts / "Flickr_8k.testImages.txt").write_text("3_c.jpg\n")
    photographs(root / photograph_folder, "1_a.jpg", "2_b.jpg", "3_c.jpg", "4_d.jpg")
    return root


@pytest.mark.parametrize("place", ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images"])
def test_flickr8k(tmp_path: Path, place: str) -> None:
    dataset = read_dataset(flickr8k_folder(tmp_path, photograph_folder=place))
    assert dataset.layout == "flickr8k"
    assert by_name(dataset) == {
        "1_a.jpg": ("train", ("A dog runs .", "The dog is running .")),
        "2_b.jpg": ("val", ("A cat sleeps .",)),
        "3_c.jpg": ("test", ("Two birds .",)),
    }
    assert dataset.notes == ("1 photographs are in none of the official lists and were left out",)
    assert dataset.problems == ()


def test_flickr8k_with_its_damaged_name_and_worse(tmp_path: Path) -> None:
    tokens = "1_a.jpg.1#0\tA dog .\r\nno tab\r\n2_b.jpg\tno number\r\n2_b.jpg#0\tA cat .\r\n3_c.jpg#0\t\r\n"
    dataset = read_dataset(flickr8k_folder(tmp_path, tokens))
    assert by_name(dataset) == {"1_a.jpg": ("train", ("A dog .",)), "2_b.jpg": ("val", ("A cat .",))}
    file = tmp_path / "Flickr8k_text" / "Flickr8k.token.txt"
    assert [(problem.kind, problem.where) for problem in dataset.problems] == [
        ("malformed", f"{file}:2"),
        ("malformed", f"{file}:3"),
        ("empty-caption", f"{file}:5"),
    ]


def test_flickr8k_photograph_in_two_lists_is_kept_from_training(tmp_path: Path) -> None:
    root = flickr8k_folder(tmp_path)
    train = root / "Flickr8k_text" / "Flickr_8k.trainImages.txt"
    train.write_text("1_a.jpg\n3_c.jpg\n")
    dataset = read_dataset(root)
    assert by_name(dataset)["3_c.jpg"][0] == "test"
    (problem,) = dataset.problems
    assert (problem.kind, problem.where) == ("split", f"{train}:2")


def test_flickr8k_from_kaggle(tmp_path: Path) -> None:
    photographs(tmp_path / "Images", *[f"{n}_a.jpg" for n in range(20)])
    rows = [f'{n}_a.jpg,"A dog , number {n} , says ""hello"" ."\n{n}_a.jpg,A dog .' for n in range(20)]
    (tmp_path / "captions.txt").write_text("\n".join(["image,caption", *rows, ""]))
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "flickr8k"
    assert dataset.records[3].captions == ('A dog , number 3 , says "hello" .', "A dog .")
    assert dataset.problems == ()
    assert dataset.split_sizes()["train"] > 10
    assert "20 photographs had no split" in dataset.notes[0]


@pytest.mark.parametrize("place", ["flickr30k-images", "flickr30k_images", "flickr30k_images/flickr30k_images"])
def test_flickr30k_as_distributed(tmp_path: Path, place: str) -> None:
    photographs(tmp_path / place, *[f"{n}.jpg" for n in range(10)])
    lines = [f"{n}.jpg#{k}\tCaption {k} of {n} ." for n in range(10) for k in range(5)]
    (tmp_path / "results_20130124.token").write_text("\n".join(lines))
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "flickr30k"
    assert len(dataset.records) == 10
    assert count_captions(dataset.records) == 50
    assert set(dataset.split_sizes().values()) == {
        0,
        dataset.split_sizes()["train"],
        dataset.split_sizes()["val"],
    }


def test_flickr30k_from_kaggle(tmp_path: Path) -> None:
    photographs(tmp_path / "flickr30k_images", "1.jpg", "2.jpg")
    file = tmp_path / "results.csv"
    file.write_text(
        "image_name| comment_number| comment\n1.jpg| 0| One , two | three .\n2.jpg| 0| Four .\n2.jpg| 1   No bar .\n"
    )
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "flickr30k"
    assert {name: captions for name, (_, captions) in by_name(dataset).items()} == {
        "1.jpg": ("One , two | three .",),
        "2.jpg": ("Four .",),
    }
    assert [problem.where for problem in dataset.problems] == [f"{file}:4"]


def test_real_flickr8k(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "flickr8k")
    assert dataset.layout == "flickr8k"
    assert dataset.split_sizes() == {"train": 6_000, "val": 1_000, "test": 0}
    assert count_captions(dataset.split("train")) == 30_000
    assert count_captions(dataset.split("val")) == 5_000
    assert dataset.problems == ()
    listed = (shared_data / "flickr8k/Flickr8k_text/Flickr_8k.devImages.txt").read_text().split()
    assert {record.image.name for record in dataset.split("val")} == set(listed)


# Recognition


def test_unknown_layouts_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no known layout.*karpathy: dataset_\*\.json.*table: one \.csv"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="no such file or folder"):
        read_dataset(tmp_path / "missing")
    with pytest.raises(DatasetError, match="no such file or folder"):
        read_dataset(tmp_path / "missing", layout="coco")
    with pytest.raises(OptionError, match="unknown layout 'voc': use one of karpathy, coco"):
        read_dataset(tmp_path, layout="voc")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match="not a file captions are read from"):
        read_dataset(tmp_path / "notes.txt")


@pytest.mark.parametrize("layout", ["karpathy", "coco", "coco2014", "flickr8k", "flickr30k", "table"])
def test_a_told_layout_that_is_not_there(tmp_path: Path, layout: str) -> None:
    with pytest.raises(DatasetError, match=r"want|no annotations"):
        read_dataset(tmp_path, layout=layout)


def test_where_several_layouts_fit_it_is_said_which_was_taken(tmp_path: Path) -> None:
    flickr8k_folder(tmp_path)
    images = [karpathy_image("1_a.jpg", "val"), karpathy_image("2_b.jpg", "train")]
    write_json(tmp_path / "dataset_flickr8k.json", {"images": images})
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "karpathy"
    assert dataset.notes[0] == "read as karpathy; flickr8k would fit too (--layout decides)"
    assert by_name(read_dataset(tmp_path, layout="flickr8k"))["1_a.jpg"][0] == "train"


def test_folders_are_listed_once_and_photographs_not_asked_for_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:012d}.jpg" for number in range(1, 2001)]
    (tmp_path / "val2017").mkdir()
    for name in names:
        (tmp_path / "val2017" / name).touch()
    images = [(number, name) for number, name in enumerate(names, start=1)]
    write_json(tmp_path / "annotations" / "captions_val2017.json", captions_json(images))
    listed: list[str] = []
    real = os.listdir

    def listdir(folder: Path) -> list[str]:
        listed.append(str(folder))
        return real(folder)

    monkeypatch.setattr("os.listdir", listdir)
    monkeypatch.setattr("os.path.exists", lambda path: pytest.fail("asked for one photograph"))
    assert len(read_dataset(tmp_path).records) == 2000
    assert listed.count(str(tmp_path / "val2017")) == 1
