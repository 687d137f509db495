"""Names of photographs out of packed files."""

from pathlib import Path

from captionlens.datasets import read_dataset
from captionlens.datasets.packed_writing import unpack_dataset
from helpers.download import small_photograph
from helpers.packed import Member, write_tar


def test_names_that_no_file_system_takes_become_numbers(tmp_path: Path) -> None:
    names = ["CON?.jpg", "a\nb.jpg", "x" * 200 + ".jpg", "A.jpg", "a.jpg", "a-5.jpg", " b .jpg", "c.jpg/d.jpg", "c.jpg"]
    members: list[Member] = [(name, small_photograph(number)) for number, name in enumerate(names)]
    members += [(f"{name.removesuffix('.jpg')}.txt", name) for name in names]
    unpack_dataset(write_tar(tmp_path / "0.tar", members), tmp_path / "to")
    written = sorted(path.relative_to(tmp_path / "to/images/0").as_posix() for path in tmp_path.rglob("*.jpg"))
    assert written == [
        "000001.jpg",
        "000002.jpg",
        "000003.jpg",
        "000007.jpg",
        "000008.jpg",
        "A.jpg",
        "a-5-6.jpg",
        "a-5.jpg",
        "c.jpg",
    ]
    for number, record in enumerate(read_dataset(tmp_path / "to").records):
        assert record.image.read_bytes() == small_photograph(number)
