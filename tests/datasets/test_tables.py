"""Tables of people's own photographs: what spreadsheets, databases and hands do to them."""

import json
import unicodedata
from pathlib import Path

import pytest

from captionlens.datasets import Dataset, TableForm, read_dataset
from captionlens.errors import DatasetError, OptionError
from helpers.cli import run_cli
from helpers.download import small_photograph


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "photos").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.jpg", "c d.jpg", "photos/e.jpg")):
        (root / name).write_bytes(small_photograph(number))
    return root


def captions(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {record.image.name: record.captions for record in dataset.records}


def told(dataset: Dataset) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where.rsplit(":", 1)[-1]) for problem in dataset.problems]


def test_csv_with_splits_and_ids(folder: Path) -> None:
    (folder / "captions.csv").write_text(
        "id,image,caption,split\n7,a.jpg,A dog.,train\n7,a.jpg,The dog.,train\n8,b.jpg,A cat.,dev\n"
        "9,photos/e.jpg,A bird.,test\n"
    )
    dataset = read_dataset(folder)
    assert dataset.layout == "table"
    assert [(r.source_id, r.split, r.captions) for r in dataset.records] == [
        ("7", "train", ("A dog.", "The dog.")),
        ("8", "val", ("A cat.",)),
        ("9", "test", ("A bird.",)),
    ]
    unnamed = "photographs beside the named ones, in no row or entry: 1, e.g. c d.jpg"
    assert (dataset.problems, dataset.notes) == ((), (unnamed,))
    assert read_dataset(folder / "captions.csv").records == dataset.records


def test_what_spreadsheets_do(folder: Path) -> None:
    text = 'Image,Caption,,\r\na.jpg,"A ""big"" dog, and\r\na cat",,\r\n,,,\r\nb.jpg,"x",,\r\nc d.jpg,y,,,,\r\n'
    (folder / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    dataset = read_dataset(folder)
    assert captions(dataset) == {"a.jpg": ('A "big" dog, and a cat',), "b.jpg": ("x",), "c d.jpg": ("y",)}
    assert dataset.problems == ()
    (folder / "t.csv").write_bytes(text.encode("utf-16"))
    assert read_dataset(folder).records == dataset.records


def test_tsv_with_nulls(folder: Path) -> None:
    (folder / "t.tsv").write_text("image\tcaption\tsplit\na.jpg\tA dog, running\t\\N\nb.jpg\t\\N\ttrain\n\\N\tx\ty\n")
    dataset = read_dataset(folder)
    assert captions(dataset) == {"a.jpg": ("A dog, running",)}
    assert told(dataset) == [("empty-caption", "3"), ("malformed", "4")]


def test_jsonl_and_the_names_of_imagefolder(folder: Path) -> None:
    rows = [{"file_name": "a.jpg", "text": "A dög."}, {"file_name": "b.jpg", "text": "A cat.", "id": 0}]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "other.csv").write_text("x,y\n")
    dataset = read_dataset(folder)
    assert captions(dataset) == {"a.jpg": ("A dög.",), "b.jpg": ("A cat.",)}
    assert [record.source_id for record in dataset.records] == ["a.jpg", "0"]


def test_jsonl_problems(folder: Path) -> None:
    lines = [
        '{"image": "a.jpg", "caption": "fine"}',
        '{"image": "a.jpg", "caption": ',
        "[1]",
        '{"image": 5, "caption": "x"}',
        '{"image": "a.jpg", "caption": {"en": "x"}}',
        '{"image": "a.jpg"}',
        "",
        '{"image": "b.jpg", "caption": "\udcff"}',
    ]
    (folder / "t.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    dataset = read_dataset(folder)
    assert captions(dataset) == {"a.jpg": ("fine",)}
    assert sorted(told(dataset)) == [
        ("empty-caption", "6"),
        ("malformed", "2"),
        ("malformed", "3"),
        ("malformed", "4"),
        ("malformed", "5"),
        ("malformed", "8"),
    ]


def test_photograph_without_a_usable_caption_is_told_of_once_where_its_captions_are_empty(folder: Path) -> None:
    lines = [
        '{"image": "a.jpg", "caption": "fine"}',
        '{"image": "b.jpg", "caption": " "}',
        '{"image": "c d.jpg", "caption": 5}',
        '{"image": "photos/e.jpg"}',
    ]
    (folder / "t.jsonl").write_text("\n".join(lines))
    dataset = read_dataset(folder)
    assert captions(dataset) == {"a.jpg": ("fine",)}
    assert [(problem.kind, problem.cause) for problem in dataset.problems] == [
        ("empty-caption", "empty caption of b.jpg"),
        ("empty-caption", "empty caption of photos/e.jpg"),
        ("malformed", "the caption of c d.jpg is not text"),
        ("no-caption", "photograph c d.jpg has no caption"),
    ]


def test_malformed_rows_are_named_with_their_line(folder: Path) -> None:
    (folder / "t.csv").write_bytes(
        b"image,caption\na.jpg,a dog, and a cat\nb.jpg,fine\n"
        b'b.jpg,"quoted" and not\n,no image\nb.jpg,\xff\nb.jpg,"two\nlines"\nb.jpg\n'
    )
    dataset = read_dataset(folder)
    assert captions(dataset) == {"b.jpg": ("fine", "two lines")}
    assert told(dataset) == [
        ("malformed", "2"),
        ("malformed", "4"),
        ("malformed", "5"),
        ("malformed", "6"),
        ("malformed", "9"),
    ]


def test_a_quote_that_never_closes(folder: Path) -> None:
    (folder / "t.csv").write_text('image,caption\na.jpg,fine\nb.jpg,"open\na.jpg,lost\n')
    with pytest.raises(DatasetError, match="line 3: an opening quote is never closed"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        (
            "picture,caption",
            r"no column 'image' \(or 'file_name'\); its columns: picture, caption \(--columns image=NAME",
        ),
        ("image,words", "no column 'caption'"),
        ("image,file_name,caption", "more than one column 'image'"),
        ("", r"its columns: a\.jpg, x, y; it seems to have no header: write a line such as image,caption"),
    ],
)
def test_headers_that_will_not_do(folder: Path, header: str, cause: str) -> None:
    (folder / "t.csv").write_text(f"{header}\na.jpg,x,y\n")
    with pytest.raises(DatasetError, match=cause):
        read_dataset(folder)
    (folder / "t.csv").unlink()
    (folder / "t.jsonl").write_text('{"image": "a.jpg"}\n')
    with pytest.raises(DatasetError, match=r"no column 'caption' \(or 'text'\); its columns: image \(--columns"):
        read_dataset(folder)


def test_names_may_not_leave_the_folder_unless_absolute(folder: Path) -> None:
    outside = folder.parent / "outside.jpg"
    outside.write_bytes(small_photograph(9))
    (folder / "t.csv").write_text(
        f"image,caption\n../outside.jpg,x\nphotos/../../outside.jpg,x\n{outside},own\nphotos/../a.jpg,inside\n"
        "../data-of-another/a.jpg,x\nphotos\\e.jpg,from windows\n/no/such.jpg,x\n"
    )
    dataset = read_dataset(folder)
    assert captions(dataset) == {"outside.jpg": ("own",), "a.jpg": ("inside",), "e.jpg": ("from windows",)}
    assert told(dataset) == [("outside", "2"), ("outside", "3"), ("outside", "6"), ("absent-image", "8")]


def test_two_spellings_of_one_photograph_are_one(folder: Path) -> None:
    (folder / "t.csv").write_text("image,caption\na.jpg,one\n./a.jpg,two\nphotos/../a.jpg,three\n")
    dataset = read_dataset(folder)
    assert captions(dataset) == {"a.jpg": ("one", "two", "three")}


def test_splits_that_contradict_are_not_followed(folder: Path) -> None:
    (folder / "t.csv").write_text(
        "image,caption,split\na.jpg,one,train\na.jpg,two,val\na.jpg,three,\nb.jpg,four,holiday\nb.jpg,five,\nb.jpg,six,val\n"
    )
    dataset = read_dataset(folder)
    assert [(r.image.name, r.split, r.captions) for r in dataset.records] == [
        ("a.jpg", "train", ("one", "three")),
        ("b.jpg", "val", ("five", "six")),
    ]
    assert told(dataset) == [("split", "3"), ("split", "5")]


def test_two_photographs_with_one_id_are_told_and_kept_apart(folder: Path) -> None:
    (folder / "t.csv").write_text("image,caption,id\na.jpg,one,1\nb.jpg,two,1\n")
    dataset = read_dataset(folder)
    assert [record.source_id for record in dataset.records] == ["1", str(folder / "b.jpg")]
    assert told(dataset) == [("same-id", "3")]


def test_more_than_one_table(folder: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (folder / name).write_text("image,caption\na.jpg,x\nb.jpg,y\n")
    with pytest.raises(DatasetError, match="no known layout"):
        read_dataset(folder)
    (folder / "captions.csv").write_text("image,caption\na.jpg,z\nb.jpg,y\n")
    assert captions(read_dataset(folder))["a.jpg"] == ("z",)


def test_a_results_table_with_commas_is_a_table(folder: Path) -> None:
    (folder / "results.csv").write_text("image,caption\na.jpg,x\nb.jpg,y\n")
    assert read_dataset(folder).layout == "table"


def test_the_built_in_scenes_are_a_table(tmp_path: Path) -> None:
    from captionlens.datasets.scenes import draw_scenes

    draw_scenes(tmp_path, images=10, seed=0, size=64, progress=False)
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "table"
    assert dataset.split_sizes() == {"train": 8, "val": 1, "test": 1}
    assert dataset.problems == ()


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiters_are_found_in_the_first_line(delimiter: str, folder: Path) -> None:
    rows = ["image,caption", "a.jpg,A dog", 'b.jpg,"A cat, asleep"']
    (folder / "t.csv").write_text("\n".join(row.replace(",", delimiter, 1) for row in rows))
    assert captions(read_dataset(folder)) == {"a.jpg": ("A dog",), "b.jpg": ("A cat, asleep",)}


def test_columns_and_delimiters_that_are_named(folder: Path) -> None:
    (folder / "t.csv").write_text("Bild:Text:image\na.jpg:Ein Hund:1\nb.jpg:Eine Katze:2\n")
    form = TableForm(delimiter=":", columns={"image": "Bild", "caption": "text", "id": "image"})
    dataset = read_dataset(folder, table=form)
    assert captions(dataset) == {"a.jpg": ("Ein Hund",), "b.jpg": ("Eine Katze",)}
    assert [record.source_id for record in dataset.records] == ["1", "2"]
    with pytest.raises(DatasetError, match=r"no column 'Foto'; its columns: Bild, Text, image$"):
        read_dataset(folder, table=TableForm(delimiter=":", columns={"image": "Foto", "caption": "Text"}))
    for senseless, message in (
        ({"delimiter": "::"}, "one character"),
        ({"columns": {"picture": "x"}}, "must name image"),
        ({"encoding": "klingon"}, "unknown encoding"),
    ):
        with pytest.raises(OptionError, match=message):
            TableForm(**senseless)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be"])
def test_other_encodings_are_refused_until_they_are_named(encoding: str, folder: Path) -> None:
    rows = ["image,caption", *["a.jpg,Ein grüner Bär läuft"] * 9, "b.jpg,Schön"]
    (folder / "t.csv").write_bytes("\r\n".join(rows).encode(encoding))
    with pytest.raises(DatasetError, match=f"--encoding {encoding}"):
        read_dataset(folder)
    dataset = read_dataset(folder, table=TableForm(encoding=encoding))
    assert captions(dataset) == {"a.jpg": ("Ein grüner Bär läuft",), "b.jpg": ("Schön",)}
    assert dataset.notes[1] == "8 captions are there twice for one photograph, and count once"


def test_one_damaged_line_does_not_cost_the_others(folder: Path) -> None:
    (folder / "t.csv").write_bytes(b"image,caption\na.jpg,fine\nb.jpg,gr\xfcn\n")
    assert captions(read_dataset(folder)) == {"a.jpg": ("fine",)}


def test_lists_of_captions_in_json(folder: Path) -> None:
    rows = [
        {"image": "a.jpg", "caption": "A dog."},
        {"image": "b.jpg", "caption": ["A cat.", "Cats."], "image_id": 4},
        5,
    ]
    (folder / "train.json").write_text(json.dumps(rows))
    for place in (folder, folder / "train.json"):
        dataset = read_dataset(place)
        assert dataset.layout == "table"
        assert captions(dataset) == {"a.jpg": ("A dog.",), "b.jpg": ("A cat.", "Cats.")}
        assert [problem.where for problem in dataset.problems] == [f"{folder / 'train.json'}, [2]"]
    (folder / "settings.json").write_text("{}")  # another program's
    assert read_dataset(folder).layout == "table"


def test_names_composed_in_either_way_are_found(folder: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Grüße/Bär.jpg") for form in ("NFC", "NFD"))
    (folder / decomposed).parent.mkdir()
    (folder / decomposed).write_bytes(small_photograph(8))
    (folder / "Ä.jpg").write_bytes(small_photograph(9))
    name = unicodedata.normalize("NFD", "Ä.jpg")
    (folder / "t.csv").write_text(f"image,caption\n{composed},A bear\n{name},A letter\n")
    dataset = read_dataset(folder)
    assert [record.captions for record in dataset.records] == [("A bear",), ("A letter",)]
    assert all(record.image.is_file() for record in dataset.records)
    assert dataset.problems == ()


def test_absolute_names_of_another_place_are_found_by_their_ends(folder: Path) -> None:
    (folder / "t.csv").write_text(
        "image,caption\nC:\\Users\\Ann\\data\\photos\\e.jpg,one\n/home/bob/set/a.jpg,two\nD:/nowhere/x.jpg,three\n"
    )
    dataset = read_dataset(folder)
    assert captions(dataset) == {"e.jpg": ("one",), "a.jpg": ("two",)}
    assert told(dataset) == [("absent-image", "4")]
    assert "2 absolute names of another place were found here by their ends" in dataset.notes


def test_photographs_in_no_row_are_told(folder: Path) -> None:
    (folder / "t.csv").write_text("image,caption\na.jpg,x\nphotos/e.jpg,y\n")
    assert "photographs beside the named ones, in no row or entry: 2, e.g. b.jpg" in read_dataset(folder).notes


def test_the_form_of_a_table_on_the_command_line(folder: Path) -> None:
    (folder / "t.csv").write_bytes("Bild:Text\na.jpg:Grün\nb.jpg:Blau\n".encode("cp1252"))
    options = ("--delimiter", ":", "--columns", "image=Bild,caption=Text", "--encoding", "cp1252")
    report = json.loads(run_cli("data", "check", folder, *options, "--json").stdout)
    assert report["ok"] is True
    assert sum(split["captions"] for split in report["splits"].values()) == 2
    assert "want ROLE=NAME" in run_cli("data", "check", folder, "--columns", "Bild", code=2).stderr
