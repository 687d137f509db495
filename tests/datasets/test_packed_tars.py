"""Tars in webdataset's form, which must not be trusted."""

import gzip
import json
import tarfile
import unicodedata
from pathlib import Path

import pytest

from captionlens.datasets import TableForm, read_dataset
from captionlens.datasets.packed_writing import unpack_dataset
from captionlens.errors import DatasetError
from helpers.cli import run_cli
from helpers.download import small_photograph
from helpers.folders import write_files
from helpers.packed import Member, found, write_tar


def test_tars_of_webdataset(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))
    shards = tmp_path / "shards"
    write_tar(
        shards / "train" / "00000.tar",
        [
            ("0001.jpg", small_photograph(1)),
            ("0001.txt", "\ufeffa circle\r\n\r\n the circle \r\n"),
            ("0001.json", json.dumps({"caption": "of the JSON", "url": "https://example.org"})),
            ("./a/0001.JPG", small_photograph(2)),
            ("./a/0001.json", json.dumps({"captions": ["one", "two"], "split": "test", "id": 7})),
            ("b.c/0001.png", small_photograph(3)),
            ("b.c/0001.caption", "a square"),
            ("0002.cls", b"5"),
            ("0002.seg.png", small_photograph(4)),
            ("0002.jpg", small_photograph(5)),
            ("0002.txt", "a triangle"),
            ("._0002.jpg", b"of a Mac"),
            (f"{composed}.webp", small_photograph(6)),
            (f"{composed}.txt", "ein Bär"),
        ],
    )
    first = [(f"{n}.jpg", small_photograph(20 + n)) for n in range(3)]
    write_tar(shards / "flickr8k-val-000001.tar", [*first, *((f"{n}.txt", f"text {n}") for n in range(3))])
    write_files(shards, {"00000.parquet": "img2dataset's", "00000_stats.json": "{}", "nshards.txt": "2"})
    with pytest.raises(DatasetError, match=r"packed \(flickr8k-val-000001.tar and 1 more\): unpack them by"):
        read_dataset(shards)
    done = unpack_dataset(shards, tmp_path / "to")
    assert (done.problems, done.failed) == ((), ())
    assert found(tmp_path / "to") == {
        "flickr8k-val-000001/0.jpg": ("val", ("text 0",)),
        "flickr8k-val-000001/1.jpg": ("val", ("text 1",)),
        "flickr8k-val-000001/2.jpg": ("val", ("text 2",)),
        "train/00000/0001.jpg": ("train", ("a circle", "the circle")),
        "train/00000/a/0001.JPG": ("test", ("one", "two")),
        "train/00000/000003.png": ("train", ("a square",)),
        "train/00000/0002.jpg": ("train", ("a triangle",)),
        f"train/00000/{composed}.webp": ("train", ("ein Bär",)),
    }
    assert decomposed != composed
    assert (tmp_path / "to/images/train/00000/0002.jpg").read_bytes() == small_photograph(5)


def test_the_caption_of_a_json_may_have_another_name(tmp_path: Path) -> None:
    row = json.dumps({"spatial_caption": "a dog left of a cat", "caption": "no"})
    file = write_tar(tmp_path / "0.tar", [("1.jpg", small_photograph(1)), ("1.json", row), ("1.txt", "neither")])
    unpack_dataset(file, tmp_path / "to", form=TableForm(columns={"caption": "spatial_caption"}))
    assert read_dataset(tmp_path / "to").records[0].captions == ("a dog left of a cat",)


def test_members_that_cannot_be_used_are_told_and_cost_no_others(tmp_path: Path) -> None:
    members: list[Member] = []
    for n in range(12):
        members += [(f"{n}.jpg", small_photograph(n)), (f"{n}.txt", f"text {n}")]
    members += [("text.txt", "alone"), ("bad.jpg", small_photograph(20)), ("bad.json", '{"caption": ')]
    members += [("two.jpg", small_photograph(21)), ("two.png", small_photograph(22)), ("two.txt", "two")]
    members += [("cp.jpg", small_photograph(23)), ("cp.txt", "gr\xfcn".encode("cp1252"))]
    members += [("none.jpg", small_photograph(24))]
    file = write_tar(tmp_path / "in" / "0.tar", members)
    done = unpack_dataset(tmp_path / "in", tmp_path / "to")
    told = [(problem.where.removeprefix(f"{file}, "), problem.cause.partition(":")[0]) for problem in done.problems]
    assert told == [
        ("text", "no photograph with this text"),
        ("bad", "Expecting value"),
        ("two.png", "has the name of two.jpg, and is left out"),
        ("cp", "the text is not UTF-8"),
    ]
    dataset = read_dataset(tmp_path / "to")
    assert len(dataset.records) == 13
    assert [(problem.kind, problem.cause) for problem in dataset.problems] == [
        ("empty-caption", "empty caption of images/0/none.jpg")
    ]


def test_texts_of_another_encoding_are_refused_until_it_is_named(tmp_path: Path) -> None:
    members: list[Member] = []
    for n in range(20):
        text = "ein großer Hund" if n % 4 else "ein Hund"
        members += [(f"{n}.jpg", small_photograph(n)), (f"{n}.txt", text.encode("cp1252"))]
    file = write_tar(tmp_path / "in" / "0.tar", members)
    result = run_cli("data", "unpack", tmp_path / "in", tmp_path / "to", code=1)
    assert f"not unpacked: {file}: 15 of 20 texts are not UTF-8: save as UTF-8, or name the" in result.stderr
    run_cli("data", "unpack", tmp_path / "in", tmp_path / "to", "--encoding", "cp1252")
    assert sum("großer" in record.captions[0] for record in read_dataset(tmp_path / "to").records) == 15


def link(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("member", "cause"),
    [
        ("../evil.jpg", "a name that leads elsewhere"),
        ("a/../../evil.jpg", "a name that leads elsewhere"),
        ("/etc/evil.jpg", "a name that leads elsewhere"),
        ("..\\evil.jpg", "a name that leads elsewhere"),
        ("C:evil.jpg", "a name that leads elsewhere"),
        (link("evil.jpg", tarfile.SYMTYPE), "a link, a device"),
        (link("evil.jpg", tarfile.LNKTYPE), "a link, a device"),
        (link("evil.jpg", tarfile.CHRTYPE), "a link, a device"),
        (link("evil.jpg", tarfile.FIFOTYPE), "a link, a device"),
    ],
)
def test_unsafe_tars_are_refused_before_anything_is_written(
    member: str | tarfile.TarInfo, cause: str, tmp_path: Path
) -> None:
    write_tar(tmp_path / "in" / "0.tar", [("1.jpg", small_photograph(1)), ("1.txt", "x"), (member, b"evil")])
    (error,) = unpack_dataset(tmp_path / "in", tmp_path / "to").failed
    assert f"refused, it holds {cause}" in str(error)
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.parametrize("where", ["header", "data", "end", "damage", "no tar", "compressed", "no end mark"])
def test_damaged_tars(where: str, tmp_path: Path) -> None:
    members: list[Member] = []
    for n in range(4):
        members += [(f"{n}.jpg", small_photograph(n)), (f"{n}.txt", f"text {n}")]
    file = write_tar(tmp_path / "in" / "0.tar", members)
    with tarfile.open(file) as tar:
        last, *_ = reversed(tar.getmembers())
    content = file.read_bytes()
    damaged = {
        "header": content[: last.offset + 100],
        "data": content[: last.offset_data + 3],
        "end": content[: last.offset_data + 512],
        "no end mark": content[: last.offset_data + 512],
        "damage": content[: last.offset] + b"?" * 512 + content[last.offset + 512 :],
        "no tar": b"no tar at all",
        "compressed": gzip.compress(content),
    }
    file.write_bytes(damaged[where])
    done = unpack_dataset(tmp_path / "in", tmp_path / "to")
    if "end" in where:  # all is there, but that there was no more cannot be known
        assert [problem.cause for problem in done.problems] == ["has no end mark: it may be cut off"]
        assert len(read_dataset(tmp_path / "to").records) == 4
        return
    (error,) = done.failed
    assert str(error).startswith(f"{file}: {'damaged' if where in ('header', 'damage') else 'is no whole tar'}")
