"""Every format reads back to what was written, failures included."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from captionlens.errors import OptionError, UnreadableImage
from captionlens.outputs import FORMATS, Spreadsheet
from captionlens.outputs.formats import CSV_COLUMNS, Csv, coco_image_id, open_writer
from captionlens.runtime.caption import Caption, Word
from captionlens.runtime.photograph import Photograph

DOG = Caption(
    "a dog",
    -1.25,
    (Word("a", 0.9), Word("dog", 0.5)),
    np.full((2, 1, 2), 0.5, np.float32),
    "photos/000000000139.jpg",
    "tiny",
)
CHINESE = Caption("狗", -2.0, (Word("狗", 0.5),), np.full((1, 1, 2), 0.5, np.float32), 'a "b", c\n.jpg', "tiny")
FAILED = Caption("", path="x.jpg", error=UnreadableImage("x.jpg", "truncated file"))
NOT_UTF8 = Caption("a dog", path="caf\udce9.jpg")


def written(
    format: str,
    captions: list[Caption],
    *,
    many: bool = True,
    attention: bool = False,
    spreadsheet: Spreadsheet | None = None,
    encoding: str = "utf-8",
    keywords: bool = False,
) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, newline="")
    with open_writer(
        format, stream, many=many, attention=attention, spreadsheet=spreadsheet, keywords=keywords
    ) as writer:
        for caption in captions:
            writer.write(caption)
    return raw.getvalue().decode(encoding)


def test_text() -> None:
    assert written("text", [DOG], many=False) == "a dog\n"
    assert written("text", [DOG, FAILED, CHINESE]) == 'photos/000000000139.jpg\ta dog\na "b", c\\n.jpg\t狗\n'
    assert written("text", [Caption("a cat")]) == "-\ta cat\n"


def test_unsure_captions_are_marked() -> None:
    doubtful = replace(DOG, unsure=True)
    assert written("text", [doubtful], many=False) == "not sure: a dog\n"
    (entry,) = json.loads(written("json", [doubtful]))
    assert (entry["caption"], entry["unsure"]) == ("a dog", True)
    rows = list(csv.DictReader(io.StringIO(written("csv", [doubtful, DOG]))))
    assert [(row["caption"], row["unsure"]) for row in rows] == [("a dog", "1"), ("a dog", "")]
    assert json.loads(written("coco", [doubtful])) == [{"image_id": 139, "caption": "a dog"}]


def test_json_is_one_array_of_what_captions_say_of_themselves() -> None:
    text = written("json", [DOG, FAILED, CHINESE])
    assert json.loads(text) == [caption.to_dict() for caption in (DOG, FAILED, CHINESE)]
    assert "狗" in text
    assert json.loads(written("json", [])) == []
    assert json.loads(written("json", [DOG])) == [DOG.to_dict()]


def test_json_lines() -> None:
    lines = written("jsonl", [DOG, FAILED, CHINESE], attention=True).splitlines()
    assert [json.loads(line) for line in lines] == [
        caption.to_dict(attention=True) for caption in (DOG, FAILED, CHINESE)
    ]
    assert json.loads(lines[0])["words"][0]["attention"] == [[0.5, 0.5]]
    assert "attention" not in written("jsonl", [DOG])


def test_csv() -> None:
    photograph = Photograph(str(DOG.path))
    photograph.file = {"size": 7, "modified": "then"}
    dog = replace(DOG, photograph=photograph)
    rows = list(csv.DictReader(io.StringIO(written("csv", [dog, FAILED, CHINESE]), newline="")))
    assert rows == [
        dict.fromkeys(CSV_COLUMNS, "") | values
        for values in (
            {"path": DOG.path, "caption": "a dog", "log_prob": "-1.25", "size": "7", "modified": "then"},
            {"path": "x.jpg", "error": "x.jpg: truncated file"},
            {"path": CHINESE.path, "caption": "狗", "log_prob": "-2.0"},
        )
    ]


@pytest.mark.parametrize(
    "name", ["=1+2.jpg", "-1.jpg", "@x.jpg", "\tx.jpg", "'=1.jpg", "''+.jpg", "'quoted'.jpg", "a.jpg"]
)
@pytest.mark.parametrize(("spreadsheet", "delimiter"), [("comma", ","), ("semicolon", ";")])
def test_tables_for_spreadsheet_programs_hold_no_formulas(spreadsheet: Spreadsheet, delimiter: str, name: str) -> None:
    text = written("csv", [replace(DOG, path=name), replace(FAILED, path=name)], spreadsheet=spreadsheet)
    assert text.startswith("\ufeffpath" + delimiter + "caption" + delimiter)
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter))
    for row in rows:
        assert row["path"][0] not in "=+-@\t\r"
        assert Csv(spreadsheet=spreadsheet).plain(row["path"]) == name
    assert [row["log_prob"] for row in rows] == ["-1,25" if spreadsheet == "semicolon" else "-1.25", ""]
    (row, _) = csv.DictReader(io.StringIO(written("csv", [replace(DOG, path=name), FAILED]), newline=""))
    assert row["path"] == name  # for other programs, exactly


def test_keywords_are_shown_where_they_were_asked_for() -> None:
    dog = replace(DOG, keywords=("dog", "=sum"))
    assert json.loads(written("jsonl", [dog]))["keywords"] == ["dog", "=sum"]
    assert written("jsonl", [replace(dog, keywords=None)]) == written("jsonl", [DOG])
    rows = list(csv.DictReader(io.StringIO(written("csv", [dog, FAILED, DOG], keywords=True))))
    assert list(rows[0]) == [*CSV_COLUMNS, "keywords"]
    assert [row["keywords"] for row in rows] == ["dog;=sum", "", ""]
    table = written("csv", [replace(dog, keywords=("=sum", "dog"))], keywords=True, spreadsheet="semicolon")
    assert table.endswith(""";"'=sum;dog"\n""")
    assert written("csv", [dog]) == written("csv", [DOG])
    assert written("text", [dog], keywords=True) == written("text", [DOG])
    assert written("coco", [dog], keywords=True) == written("coco", [DOG])


def test_a_byte_order_mark_is_of_utf8_alone() -> None:
    assert written("csv", [DOG], spreadsheet="comma", encoding="latin-1").startswith("path,")


def test_no_other_format_is_for_spreadsheet_programs() -> None:
    with pytest.raises(OptionError, match="have the format csv, not jsonl"):
        written("jsonl", [DOG], spreadsheet="comma")


def test_coco_results_leave_failures_out() -> None:
    assert json.loads(written("coco", [FAILED, DOG, CHINESE])) == [
        {"image_id": 139, "caption": "a dog"},
        {"image_id": 'a "b", c\n', "caption": "狗"},
    ]


@pytest.mark.parametrize(
    ("path", "image_id"),
    [
        ("000000000139.jpg", 139),
        ("a/COCO_val2014_000000391895.jpg", 391895),
        ("1000092795.jpg", 1000092795),
        ("1000268201_693b08cb0e.jpg", "1000268201_693b08cb0e"),
        ("dog1.jpg", "dog1"),
        ("IMG_2034.jpg", "IMG_2034"),
        ("٣.jpg", "٣"),
        (None, "-"),
    ],
)
def test_image_ids(path: str | None, image_id: int | str) -> None:
    assert coco_image_id(path) == image_id


@pytest.mark.parametrize("format", ["text", "jsonl", "csv"])
def test_captions_reach_a_pipe_one_by_one(format: str) -> None:
    raw = io.BytesIO()
    with open_writer(format, io.TextIOWrapper(raw, "utf-8"), many=True) as writer:
        writer.write(DOG)
        assert b"a dog" in raw.getvalue()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_no_name_and_no_encoding_stops_the_writing(format: str, encoding: str) -> None:
    text = written(format, [NOT_UTF8, CHINESE], encoding=encoding)
    assert "a dog" in text
    if format == "jsonl":
        assert [json.loads(line) for line in text.splitlines()] == [NOT_UTF8.to_dict(), CHINESE.to_dict()]


@pytest.mark.parametrize("format", ["json", "coco"])
def test_half_an_array_does_not_pass_for_a_whole_one(format: str) -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), open_writer(format, stream, many=True) as writer:
        writer.write(DOG)
        raise KeyboardInterrupt
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(OptionError, match="'xml'"), open_writer("xml", io.StringIO(), many=False):
        pass
