"""Awkward data sets: each in a form that people have, with its typical damage, and with the right answer to it.

Those that are packed in Parquet or tars are in test_packed.py.
"""

import json
import unicodedata
from pathlib import Path

import pytest

from captionlens.datasets import Dataset, TableForm, read_dataset
from captionlens.errors import DatasetError
from helpers.cli import run_cli
from helpers.download import small_photograph
from helpers.folders import write_files


def photographs(root: Path, *names: str) -> Path:
    files: dict[str, bytes | str] = {name: small_photograph(number) for number, name in enumerate(names)}
    return write_files(root, files)


def captions(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {record.image.relative_to(dataset.root).as_posix(): record.captions for record in dataset.records}


def told(dataset: Dataset) -> list[tuple[str, str]]:
    """Kind and line, entry or file of each problem."""
    return [(p.kind, p.where.removeprefix(str(dataset.root)).lstrip("/")) for p in dataset.problems]


def notes(dataset: Dataset) -> tuple[str, ...]:
    """All notes but those on splits."""
    return tuple(note for note in dataset.notes if "split" not in note)


def test_1_coco_with_ids_as_texts_and_names_of_another_computer(tmp_path: Path) -> None:
    photographs(tmp_path, "train2017/1.jpg", "train2017/2.jpg", "train2017/3.jpg", "train2017/forgotten.jpg")
    images = [
        {"id": 1, "file_name": "C:\\Users\\Ann\\coco\\train2017\\1.jpg"},
        {"id": "2", "file_name": "2.jpg"},
        {"id": "2", "file_name": "2.jpg"},  # two files put together
        {"id": 3.0, "file_name": "/data/ann/coco/3.jpg"},
        {"id": 3, "file_name": "2.jpg"},
        {"id": True, "file_name": "1.jpg"},
    ]
    pairs = [("1", "a dog"), (2, "a cat"), (2.0, "a cat"), ("3", "a fish"), (4, "a bird"), (1, ""), (1.5, "half")]
    annotations = [{"image_id": number, "caption": caption} for number, caption in pairs]
    content = json.dumps({"images": images, "annotations": annotations})
    write_files(tmp_path, {"annotations/captions_train2017.json": content.encode("utf-8-sig")})
    dataset = read_dataset(tmp_path)
    assert captions(dataset) == {
        "train2017/1.jpg": ("a dog",),
        "train2017/2.jpg": ("a cat", "a cat"),
        "train2017/3.jpg": ("a fish",),
    }
    file = "annotations/captions_train2017.json"
    assert sorted(told(dataset)) == [
        ("empty-caption", f"{file}, annotations[5]"),
        ("malformed", f"{file}, annotations[4]"),
        ("malformed", f"{file}, annotations[6]"),
        ("malformed", f"{file}, images[4]"),
        ("malformed", f"{file}, images[5]"),
    ]
    assert notes(dataset) == (
        "photographs beside the named ones, in no row or entry: 1, e.g. train2017/forgotten.jpg",
        "1 captions are there twice for one photograph, and are kept",
        "2 absolute names of another place were found here by their ends",
    )


def test_2_coco_that_leads_to_photographs_elsewhere_by_absolute_names(tmp_path: Path) -> None:
    photographs(tmp_path, "private/1.jpg", "coco/val2017/2.jpg")
    private = str(tmp_path / "private" / "1.jpg")
    images = [{"id": 1, "file_name": private}, {"id": 2, "file_name": str(tmp_path / "coco" / "val2017" / "2.jpg")}]
    annotations = [{"image_id": number, "caption": "a caption"} for number in (1, 2)]
    content = json.dumps({"images": images, "annotations": annotations})
    dataset = read_dataset(write_files(tmp_path / "coco", {"annotations/captions_val2017.json": content}))
    assert list(captions(dataset)) == ["val2017/2.jpg"]
    (problem,) = dataset.problems
    assert (problem.kind, problem.cause) == ("outside", f"photograph {private!r} leads out of the data set's folder")


@pytest.mark.parametrize(
    ("name", "kept"), [("annotations/captions_val2017.json", 90), ("dataset_mine.json", 99), ("captions.json", 40)]
)
def test_3_json_that_is_cut_off(name: str, kept: int, tmp_path: Path) -> None:
    whole = json.dumps([{"image": "val2017/1.jpg", "caption": "a dog on the grass"}] * 5)
    photographs(write_files(tmp_path, {name: whole[:kept]}), "val2017/1.jpg")
    with pytest.raises(DatasetError, match=r"broken JSON at line 1, column \d+: .*; the file may be cut off"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_4_karpathy_of_windows_beside_files_of_hugging_face(encoding: str, tmp_path: Path) -> None:
    photographs(tmp_path, "images/Bär.jpg", "images/2.jpg")
    images = [
        {"filename": unicodedata.normalize("NFD", "Bär.jpg"), "split": "train", "sentences": [{"raw": "ein Bär"}]},
        {"filename": "D:\\pictures\\2.jpg", "split": "val", "sentences": [{"raw": "zwei"}, {"raw": "zwei"}]},
    ]
    content = json.dumps({"images": images}, ensure_ascii=False)
    write_files(tmp_path, {"dataset_mine.json": content.encode(encoding), "dataset_infos.json": "{}"})
    dataset = read_dataset(tmp_path)
    assert captions(dataset) == {"images/Bär.jpg": ("ein Bär",), "images/2.jpg": ("zwei", "zwei")}
    assert dataset.problems == ()
    composed = unicodedata.normalize("NFC", content)
    (tmp_path / "dataset_mine.json").write_bytes(composed.encode("cp1252"))
    with pytest.raises(DatasetError, match=r"not UTF-8: .* at byte \d+: .*--encoding cp1252"):
        read_dataset(tmp_path)
    named = read_dataset(tmp_path, table=TableForm(encoding="cp1252"))
    assert captions(named) == captions(dataset)
    assert [record.source_id for record in named.records] == ["Bär", "2"]


KAGGLE = """1.jpg,A dog , running .
1.jpg,"A dog , says ""hello"" ."
2.jpg,"Two dogs
in the snow ."
2.jpg,A 5" ruler .
3.jpg,
3.jpg,"A cat ."
3.jpg,A cat .
no comma here
"""


@pytest.mark.parametrize("header", ["", "image,caption\n", '"image", "caption"\r\n'])
def test_5_kaggles_flickr8k_with_and_without_its_header(header: str, tmp_path: Path) -> None:
    photographs(tmp_path, "Images/1.jpg", "Images/2.jpg", "Images/3.jpg", "Images/4.jpg")
    write_files(tmp_path, {"captions.txt": b"\xef\xbb\xbf" + (header + KAGGLE).encode()})
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "flickr8k"
    assert captions(dataset) == {
        "Images/1.jpg": ("A dog , running .", 'A dog , says "hello" .'),
        "Images/2.jpg": ("Two dogs in the snow .", 'A 5" ruler .'),
        "Images/3.jpg": ("A cat .", "A cat ."),
    }
    first = 1 if header else 0
    assert told(dataset) == [
        ("malformed", f"captions.txt:{first + 9}"),
        ("empty-caption", f"captions.txt:{first + 6}"),
    ]
    assert notes(dataset) == (
        "photographs beside the named ones, in no row or entry: 1, e.g. Images/4.jpg",
        "1 captions are there twice for one photograph, and are kept",
    )


@pytest.mark.parametrize("header", ["", "image_name,comment_number,comment\n"])
def test_6_kaggles_flickr30k_in_a_file_called_as_that_of_flickr8k(header: str, tmp_path: Path) -> None:
    photographs(tmp_path, "flickr30k-images/1.jpg", "Images/1.jpg", "Images/2.jpg")
    rows = '1.jpg,0,"Two men , one hat ."\n1.jpg,1,A man .\n2.jpg,0, A horse .\n'
    write_files(tmp_path, {"captions.txt": header + rows})
    assert captions(read_dataset(tmp_path)) == {
        "Images/1.jpg": ("Two men , one hat .", "A man ."),
        "Images/2.jpg": ("A horse .",),
    }


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be", "utf-16"])
def test_7_flickr8k_in_another_language_and_encoding(encoding: str, tmp_path: Path) -> None:
    lines = [f"{number}.jpg#{k}\tEin großer Bär läuft , {k} ." for number in range(4) for k in range(5)]
    photographs(tmp_path, *(f"Flicker8k_Dataset/{number}.jpg" for number in range(4)))
    write_files(tmp_path, {"Flickr8k_text/Flickr8k.token.txt": "\r\n".join(lines).encode(encoding)})
    if encoding != "utf-16":  # that has a byte order mark
        with pytest.raises(DatasetError, match=f"--encoding {encoding}"):
            read_dataset(tmp_path)
        report = json.loads(run_cli("data", "check", tmp_path, "--encoding", encoding, "--json").stdout)
        assert sum(split["captions"] for split in report["splits"].values()) == 20
    dataset = read_dataset(tmp_path, table=TableForm(encoding=encoding))
    assert len(dataset.records) == 4
    assert dataset.records[0].captions[1] == "Ein großer Bär läuft , 1 ."


def test_8_a_table_of_a_german_spreadsheet(tmp_path: Path) -> None:
    photographs(tmp_path, "fotos/Bär.jpg", "fotos/hund.jpg", "fotos/mehr/katze.jpg", "fotos/mehr/vergessen.jpg")
    rows = [
        "sep=;",
        "Bild;Text;Teil",
        'fotos\\Bär.jpg;"Ein Bär; er schläft',
        'auf ""seinem"" Stein";train',
        "fotos/Bär.jpg;Ein Bär;train",
        "fotos/Bär.jpg; Ein  Bär ;train",
        ";;",
        "fotos/hund.jpg;;val",
        "fotos/hund.jpg;Ein Hund;val",
        "fotos/mehr/katze.jpg;Eine Katze;Probe",
        "fotos/mehr/katze.jpg;Eine Katze;",
    ]
    write_files(tmp_path, {"Bilder.csv": "\r\n".join(rows).encode("utf-8-sig")})
    with pytest.raises(DatasetError, match=r"no column 'image' .*its columns: Bild, Text, Teil \(--columns image=NAME"):
        read_dataset(tmp_path)
    form = TableForm(columns={"image": "Bild", "caption": "Text", "split": "Teil"})
    dataset = read_dataset(tmp_path, table=form)
    assert captions(dataset) == {
        "fotos/Bär.jpg": ('Ein Bär; er schläft auf "seinem" Stein', "Ein Bär"),
        "fotos/hund.jpg": ("Ein Hund",),
        "fotos/mehr/katze.jpg": ("Eine Katze",),
    }
    assert told(dataset) == [("empty-caption", "Bilder.csv:8"), ("split", "Bilder.csv:10")]
    assert notes(dataset) == (
        "photographs beside the named ones, in no row or entry: 1, e.g. fotos/mehr/vergessen.jpg",
        "1 captions are there twice for one photograph, and count once",
    )


def test_9_a_table_of_pandas_with_lists_in_its_cells(tmp_path: Path) -> None:
    photographs(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.jpg", "images/4.jpg", "images/more/5.jpg")
    rows = [
        ",image,captions",
        """0,1.jpg,"['a dog', ""the dog's bone"", 'a dog']\"""",
        '''1,2.jpg,"[""a cat"", ""two \\""big\\"" cats""]"''',
        "2,3.jpg,[silence] in the snow [again]",
        """3,4.jpg,"['an array' 'of numpy']\"""",
        "4,4.jpg,[]",
        "5,4.jpg,in brackets []",
    ]
    dataset = read_dataset(write_files(tmp_path, {"captions.csv": "\n".join(rows)}))
    assert captions(dataset) == {
        "images/1.jpg": ("a dog", "the dog's bone"),
        "images/2.jpg": ("a cat", 'two "big" cats'),
        "images/3.jpg": ("[silence] in the snow [again]",),
        "images/4.jpg": ("in brackets []",),
    }
    assert told(dataset) == [("malformed", "captions.csv:5"), ("empty-caption", "captions.csv:6")]
    wanted = "the caption of 4.jpg begins as a list of captions, and is none that JSON or Python reads"
    assert dataset.problems[0].cause == wanted
    assert notes(dataset) == (
        "photographs beside the named ones, in no row or entry: 1, e.g. images/more/5.jpg",
        "1 captions are there twice for one photograph, and count once",
    )


def test_10_a_table_with_captions_side_by_side(tmp_path: Path) -> None:
    photographs(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    rows = "image\tcaption_0\tcaption_1\tcaption_2\n1.jpg\ta\tb\ta\n2.jpg\tc\t\t\\N\n3.jpg\t\t\t\n"
    dataset = read_dataset(write_files(tmp_path, {"t.csv": rows}))
    assert captions(dataset) == {"1.jpg": ("a", "b"), "2.jpg": ("c",)}
    assert told(dataset) == [("empty-caption", "t.csv:4")]
    (tmp_path / "t.csv").write_text("image,caption_0,caption\n1.jpg,a,b\n")
    with pytest.raises(DatasetError, match=r"more than one column 'caption' .*\(--columns caption=NAME tells"):
        read_dataset(tmp_path)
    form = TableForm(columns={"caption": "caption_0"})
    assert captions(read_dataset(tmp_path, table=form)) == {"1.jpg": ("a",)}


def test_11_a_table_without_a_header_and_one_whose_captions_want_quotes(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{number}.jpg" for number in range(20)))
    rows = [f"{number}.jpg,a dog, which runs" if number % 3 else f"{number}.jpg,a dog" for number in range(20)]
    file = write_files(tmp_path, {"t.csv": "\n".join(rows)}) / "t.csv"
    with pytest.raises(DatasetError, match=r"its columns: 0.jpg, a dog; it seems to have no header: write a line such"):
        read_dataset(tmp_path)
    file.write_text("\n".join(["image,caption", *rows]))
    with pytest.raises(DatasetError, match=r"13 of 20 lines are malformed, e.g. 3 \(3 cells where the header has 2\)"):
        read_dataset(tmp_path)
    file.write_text("\n".join(["image,caption", *rows[::3], *rows[1:9]]))  # a few such lines are left out
    dataset = read_dataset(tmp_path)
    assert len(dataset.records) == 7
    assert [problem.kind for problem in dataset.problems] == ["malformed"] * 6


def test_12_an_imagefolder_with_lists_of_captions_and_a_file_that_is_cut_off(tmp_path: Path) -> None:
    photographs(tmp_path, "train/1.jpg", "train/2.jpg", "train/3.jpg", "validation/1.jpg", "validation/2.jpg")
    rows = [
        json.dumps({"file_name": "1.jpg", "text": ["a dog", "a dog", "the dog"]}),
        json.dumps({"file_name": "2.jpg", "text": []}),
        '{"file_name": "3.jpg", "te',
    ]
    files: dict[str, bytes | str] = {
        "train/metadata.jsonl": "\n".join(rows),
        "validation/metadata.csv": "file_name,text\n1.jpg,a cat\n",
    }
    dataset = read_dataset(write_files(tmp_path, files))
    assert captions(dataset) == {"train/1.jpg": ("a dog", "the dog"), "validation/1.jpg": ("a cat",)}
    assert told(dataset) == [("empty-caption", "train/metadata.jsonl:2"), ("malformed", "train/metadata.jsonl:3")]
    assert notes(dataset) == (
        "photographs beside the named ones, in no row or entry: 2, e.g. train/3.jpg",
        "1 captions are there twice for one photograph, and count once",
    )


def test_13_json_lines_with_two_kinds_of_texts(tmp_path: Path) -> None:
    photographs(tmp_path, "1.jpg", "2.jpg")
    rows = [{"image": f"{number}.jpg", "caption": f"caption {number}", "text": "EXIT"} for number in (1, 2)]
    write_files(tmp_path, {"t.jsonl": "\n".join(map(json.dumps, rows)).encode("utf-16")})
    with pytest.raises(DatasetError, match=r"more than one column 'caption' \(or 'text'\); its columns: image, cap"):
        read_dataset(tmp_path)
    dataset = read_dataset(tmp_path, table=TableForm(columns={"caption": "caption"}))
    assert captions(dataset) == {"1.jpg": ("caption 1",), "2.jpg": ("caption 2",)}


def test_14_texts_beside_photographs_that_do_not_belong_together_one_to_one(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))
    photographs(tmp_path, "1.jpg", "1.png", f"{composed}.JPG", "2.jpg", "3.jpg", "a/1.jpg")
    texts: dict[str, bytes | str] = {
        "1.txt": "first\nsecond\nfirst\n",
        f"{decomposed}.TXT": "ein Bär".encode("utf-16"),
        "2.caption": "of kohya's scripts",
        "a/1.caption": "not this",
        "a/1.txt": "this",
        "lost.txt": "without a photograph",
    }
    dataset = read_dataset(write_files(tmp_path, texts))
    assert captions(dataset) == {
        "1.jpg": ("first", "second"),
        "2.jpg": ("of kohya's scripts",),
        f"{composed}.JPG": ("ein Bär",),
        "a/1.jpg": ("this",),
    }
    assert told(dataset) == [("shared-text", "1.txt")]
    assert dataset.problems[0].cause == "belongs to 1.jpg; 1.png, which has the same name, is left out"
    assert notes(dataset) == (
        "photographs without a text beside them: 1",
        "texts without a photograph beside them: 1, e.g. lost.txt",
        "1 captions are there twice for one photograph, and count once",
    )


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le"])
def test_15_texts_beside_photographs_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(12)]
    photographs(tmp_path, *names)
    for number, name in enumerate(names):
        text = "ein großer Bär" if number < 6 else "ein Hund"
        (tmp_path / name).with_suffix(".txt").write_bytes(text.encode(encoding))
    with pytest.raises(DatasetError, match=rf"\d+ of 12 texts are not UTF-8: .*--encoding {encoding}"):
        read_dataset(tmp_path)
    dataset = read_dataset(tmp_path, table=TableForm(encoding=encoding))
    assert captions(dataset)["3.jpg"] == ("ein großer Bär",)
    assert len(dataset.records) == 12
    assert dataset.problems == ()
