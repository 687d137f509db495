"""Zip archives that must not be trusted."""

import stat
import zipfile
from pathlib import Path

import pytest

from captionlens.datasets.unpack import is_whole, unpack
from captionlens.errors import DownloadError


def packed(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return path


def everything_below(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_wanted_files_are_unpacked(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"a/1.jpg": b"one", "a/2.jpg": b"two", "b.txt": b"no"})
    files = unpack(archive, tmp_path / "to", wants=lambda name: name.endswith(".jpg"))
    assert files == [tmp_path / "to/a/1.jpg", tmp_path / "to/a/2.jpg"]
    assert everything_below(tmp_path / "to") == ["a/1.jpg", "a/2.jpg"]
    assert (tmp_path / "to/a/2.jpg").read_bytes() == b"two"


def test_finished_files_are_skipped_and_others_replaced(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"1.jpg": b"one", "2.jpg": b"two"})
    folder = tmp_path / "to"
    unpack(archive, folder)
    before = (folder / "1.jpg").stat().st_mtime_ns
    (folder / "2.jpg").write_bytes(b"t")  # cut off by a power cut
    unpack(archive, folder)
    assert (folder / "1.jpg").stat().st_mtime_ns == before
    assert (folder / "2.jpg").read_bytes() == b"two"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg",
        "a/../../evil.jpg",
        "/etc/evil.jpg",
        "C:evil.jpg",
        "..\\evil.jpg",
        "\\\\server\\evil.jpg",
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path / "a.zip", {"good.jpg": b"good", name: b"evil"})
    with pytest.raises(DownloadError, match="leads elsewhere"):
        unpack(archive, tmp_path / "to" / "deep")
    assert everything_below(tmp_path) == ["a.zip"]


def test_links_and_devices(tmp_path: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR):
        entry = zipfile.ZipInfo("train2014")
        entry.create_system = 3
        entry.external_attr = (kind | 0o777) << 16
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(entry, "/etc")
            archive.writestr("train2014/passwd", "evil")
        with pytest.raises(DownloadError, match="link or a device"):
            unpack(tmp_path / "a.zip", tmp_path / "to")
        assert not (tmp_path / "to").exists()


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"one")
    folder = tmp_path / "to"
    folder.mkdir()
    (folder / "1.jpg").symlink_to(precious)
    unpack(packed(tmp_path / "a.zip", {"1.jpg": b"new"}), folder)
    assert precious.read_bytes() == b"one"
    assert not (folder / "1.jpg").is_symlink()


def test_a_bomb(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"bomb.jpg": bytes(30 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DownloadError, match="a bomb"):
        unpack(archive, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_bomb_that_declares_less_than_it_is(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"bomb.jpg": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    content = archive.read_bytes()
    # The declared size stands in the local header and in the list of contents.
    lying = content.replace((1 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert lying != content
    archive.write_bytes(lying)
    with pytest.raises(DownloadError):
        unpack(archive, tmp_path / "to")
    assert everything_below(tmp_path) == ["a.zip"]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.jpg", "one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("1.jpg", "two")
    with pytest.raises(DownloadError, match="two files of the same name"):
        unpack(tmp_path / "a.zip", tmp_path / "to")


def test_damaged_content_is_seen_by_its_crc(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"1.jpg": b"one" * 100, "2.jpg": b"two" * 100})
    archive.write_bytes(archive.read_bytes().replace(b"twotwo", b"twqtwo", 1))
    with pytest.raises(DownloadError, match="CRC"):
        unpack(archive, tmp_path / "to")
    assert everything_below(tmp_path / "to") == ["1.jpg"]


def test_a_full_disk_is_seen_from_the_list_of_contents(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"1.jpg": bytes(1000), "2.jpg": bytes(2000)})
    with pytest.raises(DownloadError, match=r"needs 3,000 bytes .* 2,999 are free"):
        unpack(archive, tmp_path / "to", free_bytes=lambda folder: 2_999)
    assert not (tmp_path / "to").exists()


def test_nothing_wanted_and_nothing_whole(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"1.jpg": b"one"})
    with pytest.raises(DownloadError, match="none of the files"):
        unpack(archive, tmp_path / "to", wants=lambda name: False)
    assert is_whole(archive)
    archive.write_bytes(archive.read_bytes()[:-10])
    assert not is_whole(archive)
    with pytest.raises(DownloadError, match="damaged or cut off"):
        unpack(archive, tmp_path / "to")
