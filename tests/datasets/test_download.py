"""Downloads against a local server that drops, lies and changes its mind."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import urllib.request
import zipfile
from http.client import HTTPMessage
from pathlib import Path

import pytest

from captionlens.datasets import read_dataset
from captionlens.datasets.download import download_dataset, resolve_dataset
from captionlens.datasets.sources import SOURCES, known_source, parse_sums
from captionlens.errors import DownloadError, OptionError
from captionlens.fetch import Patience, _HttpOnly, fetch, fetch_text
from helpers.cli import run_cli
from helpers.download import make_small_coco2014, serve, write_sums
from helpers.waiting import eventually

QUICK = Patience(attempts=4, backoff=0.01, timeout=5.0)
CONTENT = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(10_000))  # 320 kB
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "a.zip").write_bytes(CONTENT)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder / "a.zip"


@pytest.fixture
def coco_site(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    make_small_coco2014(folder)
    return folder


def leftovers(target: Path) -> list[str]:
    return sorted(file.name for file in target.parent.iterdir() if file != target)


def test_a_file_comes_whole_and_leaves_nothing_beside_it(site: Path, target: Path) -> None:
    with serve(site) as url:
        assert fetch(url + "a.zip", target, size=len(CONTENT), checksum=MD5, patience=QUICK) == target
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == []


def test_dropped_connections_are_resumed_where_they_ended(site: Path, target: Path) -> None:
    with serve(site, drop_after=100_000) as url:
        fetch(url + "a.zip", target, patience=QUICK)
        assert [span for _, span in url.requests] == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]
    assert target.read_bytes() == CONTENT


def test_a_transfer_without_length_that_breaks_is_resumed(site: Path, target: Path) -> None:
    with serve(site, drop_after=100_000, drops=2, chunked=True) as url:
        fetch(url + "a.zip", target, patience=QUICK)
        assert len(url.requests) == 3
    assert target.read_bytes() == CONTENT


def test_progress_of_any_size_renews_the_patience(site: Path, target: Path) -> None:
    # 32 attempts, far more than the four that may fail in a row.
    with serve(site, drop_after=10_000) as url:
        fetch(url + "a.zip", target, patience=QUICK)
        assert len(url.requests) == 32
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_anew_and_not_for_ever(site: Path, target: Path) -> None:
    with serve(site, drop_after=100_000, drops=2, ignore_ranges=True) as url:
        fetch(url + "a.zip", target, patience=QUICK)
    assert target.read_bytes() == CONTENT
    target.unlink()
    with serve(site, drop_after=100_000, ignore_ranges=True) as url:
        with pytest.raises(DownloadError, match=r"a\.zip: connection ended after 100,000 of 320,000 bytes"):
            fetch(url + "a.zip", target, patience=QUICK)
        assert len(url.requests) == QUICK.attempts


def test_without_a_validator_or_checksum_nothing_is_continued(site: Path, target: Path) -> None:
    with serve(site, drop_after=100_000, drops=1, no_validator=True) as url:
        fetch(url + "a.zip", target, patience=QUICK)
        assert [span for _, span in url.requests] == [None, None]
    assert target.read_bytes() == CONTENT


def test_with_a_checksum_it_is_continued_without_a_validator(site: Path, target: Path) -> None:
    with serve(site, drop_after=200_000, drops=1, no_validator=True) as url:
        fetch(url + "a.zip", target, checksum=MD5, patience=QUICK)
        assert [span for _, span in url.requests] == [None, "bytes=200000-"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("ignore_if_range", [False, True])
def test_a_file_that_changed_meanwhile_is_never_glued_together(site: Path, target: Path, ignore_if_range: bool) -> None:
    with serve(site, drop_after=100_000, ignore_if_range=ignore_if_range) as url:
        with pytest.raises(DownloadError):
            fetch(url + "a.zip", target, patience=Patience(attempts=1))
        assert target.with_name("a.zip.part").stat().st_size == 100_000
        changed = CONTENT[::-1]
        (site / "a.zip").write_bytes(changed)
        url.misbehaviour.drop_after = None
        fetch(url + "a.zip", target, patience=QUICK)
    assert target.read_bytes() == changed


def test_a_length_that_is_too_long_is_detected(site: Path, target: Path) -> None:
    with serve(site, extra_length=1000) as url, pytest.raises(DownloadError, match="tried 4 times"):
        fetch(url + "a.zip", target, patience=QUICK)
    assert not target.exists()


def test_a_part_of_unknown_length_that_was_complete_is_kept(site: Path, target: Path) -> None:
    # Everything came, but the end of the transfer did not.
    with serve(site, drop_after=len(CONTENT) - 1, chunked=True) as url:
        with pytest.raises(DownloadError):
            fetch(url + "a.zip", target, patience=Patience(attempts=1))
        with target.with_name("a.zip.part").open("ab") as part:
            part.write(CONTENT[-1:])
        fetch(url + "a.zip", target, patience=QUICK)
        assert [span for _, span in url.requests] == [None, "bytes=320000-"]
    assert target.read_bytes() == CONTENT


def test_a_length_that_is_too_short_is_detected_by_the_published_size(site: Path, target: Path) -> None:
    with serve(site, extra_length=-1000) as url:
        with pytest.raises(DownloadError, match="offers 319,000 bytes, the published file has 320,000"):
            fetch(url + "a.zip", target, size=len(CONTENT), patience=QUICK)
        assert len(url.requests) == 1
    assert not target.exists()


def test_a_length_that_is_too_short_is_detected_by_the_checksum(site: Path, target: Path) -> None:
    with serve(site, extra_length=-1000) as url, pytest.raises(DownloadError, match="published checksum"):
        fetch(url + "a.zip", target, checksum=MD5, patience=QUICK)
    assert leftovers(target) == []
    assert not target.exists()


def test_a_wrong_checksum_deletes_what_came(site: Path, target: Path) -> None:
    (site / "a.zip").write_bytes(CONTENT[:-1] + b"?")
    with serve(site) as url, pytest.raises(DownloadError, match=r"a\.zip.*checksum.*deleted"):
        fetch(url + "a.zip", target, size=len(CONTENT), checksum=MD5, patience=QUICK)
    assert leftovers(target) == []


def test_first_digits_of_a_checksum_are_enough(site: Path, target: Path) -> None:
    with serve(site) as url:
        assert fetch(url + "a.zip", target, checksum=MD5[:12], patience=QUICK) == target
        wrong = f"md5:{'0' * 8}"
        with pytest.raises(DownloadError, match=f"checksum {MD5}, not the published checksum {wrong}"):
            fetch(url + "a.zip", target.with_name("b.zip"), checksum=wrong, patience=QUICK)
    assert [file.name for file in target.parent.iterdir()] == ["a.zip"]


def test_404_is_final(site: Path, target: Path) -> None:
    with serve(site) as url:
        with pytest.raises(DownloadError, match=r"b\.zip: HTTP 404"):
            fetch(url + "b.zip", target, patience=QUICK)
        assert len(url.requests) == 1


def test_503_is_tried_again(site: Path, target: Path) -> None:
    with serve(site, statuses=[503, 503]) as url:
        fetch(url + "a.zip", target, patience=QUICK)
        assert len(url.requests) == 3
    assert target.read_bytes() == CONTENT


def test_a_server_that_says_nothing_is_left(site: Path, target: Path) -> None:
    patience = Patience(attempts=2, backoff=0.01, timeout=0.2)
    with serve(site, hang=1.0) as url, pytest.raises(DownloadError, match=r"in time|no data"):
        fetch(url + "a.zip", target, patience=patience)


def test_no_server_at_all_names_address_and_cause(target: Path) -> None:
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9/a\.zip: .*refused"):
        fetch("http://127.0.0.1:9/a.zip", target, patience=QUICK)


def test_only_http_is_fetched_and_redirected_to(site: Path, target: Path) -> None:
    with pytest.raises(DownloadError, match="only http and https"):
        fetch((site / "a.zip").as_uri(), target)
    with serve(site, redirect="file:///etc/passwd") as url, pytest.raises(DownloadError):
        fetch(url + "a.zip", target, patience=QUICK)
    with serve(site) as there, serve(site, redirect=there + "a.zip") as url:
        fetch(url + "other.zip", target, patience=QUICK)
    assert target.read_bytes() == CONTENT


def test_no_redirect_leads_from_https_back_to_http() -> None:
    request = urllib.request.Request("https://example.org/a.zip")
    with pytest.raises(DownloadError, match="not followed"):
        _HttpOnly().redirect_request(request, io.BytesIO(), 302, "", HTTPMessage(), "http://example.org/a.zip")
    followed = _HttpOnly().redirect_request(request, io.BytesIO(), 302, "", HTTPMessage(), "https://example.com/a.zip")
    assert followed is not None
    assert followed.full_url == "https://example.com/a.zip"


def test_a_full_disk_is_seen_before_the_first_byte(site: Path, target: Path) -> None:
    with serve(site) as url, pytest.raises(DownloadError, match=r"needs 320,000 bytes .* 319,999 are free"):
        fetch(url + "a.zip", target, patience=QUICK, free_bytes=lambda folder: 319_999)
    assert not target.with_name("a.zip.part").exists()


def test_a_part_that_was_complete_is_only_renamed(site: Path, target: Path) -> None:
    with serve(site, drop_after=319_999) as url:
        with pytest.raises(DownloadError):
            fetch(url + "a.zip", target, patience=Patience(attempts=1))
        with target.with_name("a.zip.part").open("ab") as part:
            part.write(CONTENT[-1:])
        fetch(url + "a.zip", target, checksum=MD5, patience=QUICK)
        assert len(url.requests) == 1
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_started_anew(site: Path, target: Path) -> None:
    with serve(site, drop_after=100_000) as url:
        with pytest.raises(DownloadError):
            fetch(url + "a.zip", target, patience=Patience(attempts=1))
        with target.with_name("a.zip.part").open("ab") as part:
            part.write(bytes(400_000))
        url.misbehaviour.drop_after = None
        fetch(url + "a.zip", target, patience=QUICK)
    assert target.read_bytes() == CONTENT


def test_a_part_without_its_notes_is_not_trusted(site: Path, target: Path) -> None:
    target.with_name("a.zip.part").write_bytes(bytes(1000))
    with serve(site) as url:
        fetch(url + "a.zip", target, patience=QUICK)
        assert url.requests == [("a.zip", None)]
    assert target.read_bytes() == CONTENT


def test_kill_9_in_the_middle_then_resume(site: Path, target: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from captionlens.fetch import fetch; "
        "fetch(sys.argv[1], Path(sys.argv[2]))"
    )
    part = target.with_name("a.zip.part")
    with serve(site, pause=0.05) as url:
        process = subprocess.Popen([sys.executable, "-c", program, url + "a.zip", str(target)])
        assert eventually(lambda: part.exists() and part.stat().st_size > 0, seconds=30)
        process.send_signal(signal.SIGKILL)
        process.wait()
        there = part.stat().st_size
        assert 0 < there < len(CONTENT)
        assert not target.exists()
        url.misbehaviour.pause = 0.0
        fetch(url + "a.zip", target, checksum=MD5, patience=QUICK)
        assert url.requests[-1] == ("a.zip", f"bytes={there}-")
    assert target.read_bytes() == CONTENT


def test_small_texts(site: Path) -> None:
    (site / "SHA256SUMS").write_text("x")
    with serve(site, statuses=[500]) as url:
        with pytest.raises(DownloadError, match="HTTP 500"):
            fetch_text(url + "SHA256SUMS")
        assert fetch_text(url + "SHA256SUMS") == "x"
        assert fetch_text(url + "missing") is None


def test_sums_are_parsed_or_refused() -> None:
    sums = f"{'A' * 64}  ./zips/a.zip\n\n{'b' * 64} *b.zip\n"
    assert parse_sums(sums, "here") == {"zips/a.zip": "a" * 64, "b.zip": "b" * 64}
    with pytest.raises(DownloadError, match="here: line 1"):
        parse_sums("<html>", "here")


def test_a_small_coco_from_a_mirror(coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(coco_site, drop_after=5_000) as url:
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        folder = download_dataset("coco2014", tmp_path / "coco", patience=QUICK)
        asked = len(url.requests)
        assert download_dataset("coco2014", tmp_path / "coco", patience=QUICK) == folder
        assert len(url.requests) == asked
    dataset = read_dataset(folder)
    assert dataset.layout == "coco"
    assert dataset.split_sizes() == {"train": 16, "val": 8, "test": 0}
    assert dataset.problems == ()
    # Only what captioning needs is unpacked, and the archives go.
    assert sorted(file.name for file in (folder / "annotations").iterdir()) == [
        "captions_train2014.json",
        "captions_val2014.json",
    ]
    assert sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")) == [
        "annotations",
        "train2014",
        "val2014",
    ]


def test_a_mirror_without_sums(coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (coco_site / "SHA256SUMS").unlink()
    with serve(coco_site) as url:
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url.rstrip("/"))
        folder = download_dataset("coco2014", tmp_path / "coco", patience=QUICK, keep_archives=True)
    assert read_dataset(folder).split_sizes()["train"] == 16
    assert len(list(folder.glob("*.zip"))) == 3


def test_a_mirror_whose_sums_do_not_fit(coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (coco_site / "SHA256SUMS").write_text(f"{'0' * 64}  annotations_trainval2014.zip\n")
    with serve(coco_site) as url, pytest.raises(DownloadError, match="published checksum sha256:000"):
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        download_dataset("coco2014", tmp_path / "coco", patience=QUICK)


def test_what_is_no_zip_is_not_kept(coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (coco_site / "SHA256SUMS").unlink()
    for page in coco_site.rglob("*.zip"):
        page.write_text("<html>Please log in</html>")
    with serve(coco_site) as url, pytest.raises(DownloadError, match="not a whole zip"):
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        download_dataset("coco2014", tmp_path / "coco", patience=QUICK)
    assert not list((tmp_path / "coco").glob("*.zip"))


def test_a_zip_cut_short_by_a_false_length_is_detected(
    coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (coco_site / "SHA256SUMS").unlink()
    with serve(coco_site, extra_length=-50) as url, pytest.raises(DownloadError, match="not a whole zip"):
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        download_dataset("coco2014", tmp_path / "coco", patience=QUICK)


def test_archives_put_there_by_hand_are_used(coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "coco"
    folder.mkdir()
    for zip_file in coco_site.rglob("*.zip"):
        (folder / zip_file.name).write_bytes(zip_file.read_bytes())
    with serve(coco_site) as url:
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        download_dataset("coco2014", folder, patience=QUICK)
        assert [path for path, _ in url.requests] == ["SHA256SUMS"]
    assert read_dataset(folder).split_sizes()["val"] == 8


def test_the_published_size_is_held_against_what_lies_there(coco_site: Path, tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    folder.mkdir()
    (folder / "annotations_trainval2014.zip").write_bytes(b"not it")
    with pytest.raises(DownloadError, match="has 6 bytes instead of 252,872,794"):
        download_dataset("coco2014", folder, patience=QUICK, free_bytes=lambda folder: 10**12)


def test_a_deleted_photograph_folder_is_fetched_again(
    coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(coco_site) as url:
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        folder = download_dataset("coco2014", tmp_path / "coco", patience=QUICK)
        for photograph in (folder / "val2014").iterdir():
            photograph.unlink()
        url.requests.clear()
        download_dataset("coco2014", folder, patience=QUICK)
        assert [path for path, _ in url.requests] == ["SHA256SUMS", "zips/val2014.zip"]
    assert read_dataset(folder).split_sizes()["val"] == 8


def test_no_network_tells_how_to_get_the_files_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONLENS_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9/SHA256SUMS"):
        download_dataset("coco2017", tmp_path / "coco", patience=QUICK)
    monkeypatch.delenv("CAPTIONLENS_MIRROR")
    # A proxy that is not there keeps the test off the real servers.
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DownloadError) as caught:
        download_dataset("coco2017", tmp_path / "coco", patience=QUICK, free_bytes=lambda folder: 10**12)
    message = str(caught.value)
    assert "http://images.cocodataset.org/annotations/annotations_trainval2017.zip: Connection refused" in message
    assert f"put them into {tmp_path / 'coco'}" in message
    assert message.count("\n  http") == 3


def test_a_disk_too_small_for_the_whole_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTIONLENS_MIRROR", raising=False)
    with pytest.raises(DownloadError, match=r"coco2014 needs about 33,919,033,517 bytes .*, 5,000 are free"):
        download_dataset("coco2014", tmp_path / "coco", free_bytes=lambda folder: 5_000)


def test_two_downloads_into_one_folder(coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path / "coco"
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process"):
            download_dataset("coco2014", folder, patience=QUICK)


def test_flickr8k_has_its_texts_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site" / "jbrownlee/Datasets/releases/download/Flickr8k"
    site.mkdir(parents=True)
    from helpers.download import small_photograph

    with zipfile.ZipFile(site / "Flickr8k_text.zip", "w") as packed:
        packed.writestr("Flickr8k.token.txt", "1_a.jpg#0\tA dog .\n2_b.jpg#0\tA cat .\n")
        packed.writestr("Flickr_8k.trainImages.txt", "1_a.jpg\n")
        packed.writestr("Flickr_8k.devImages.txt", "2_b.jpg\n")
        packed.writestr("__MACOSX/._Flickr8k.token.txt", "junk")
        packed.writestr("readme.txt", "not needed")
    with zipfile.ZipFile(site / "Flickr8k_Dataset.zip", "w") as packed:
        packed.writestr("Flicker8k_Dataset/1_a.jpg", small_photograph(1))
        packed.writestr("Flicker8k_Dataset/2_b.jpg", small_photograph(2))
        packed.writestr("__MACOSX/Flicker8k_Dataset/._1_a.jpg", "junk")
    write_sums(tmp_path / "site")
    with serve(tmp_path / "site") as url:
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        monkeypatch.setenv("CAPTIONLENS_DATA_HOME", str(tmp_path / "home"))
        folder = resolve_dataset("flickr8k")
    assert folder == tmp_path / "home" / "flickr8k"
    assert read_dataset(folder).split_sizes() == {"train": 1, "val": 1, "test": 0}
    assert not (folder / "__MACOSX").exists()
    assert not (folder / "Flickr8k_text" / "readme.txt").exists()


def test_flickr30k_says_where_to_ask(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"University of Illinois(.|\n)*results_20130124\.token"):
        download_dataset("flickr30k", tmp_path)
    (tmp_path / "results_20130124.token").write_text("")
    assert download_dataset("flickr30k", tmp_path) == tmp_path


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_dataset(tmp_path / "my data") == tmp_path / "my data"
    (tmp_path / "coco2014").mkdir()
    assert resolve_dataset("coco2014") == Path("coco2014")
    with pytest.raises(OptionError, match="unknown data set 'coco2015': use one of coco2014, coco2017"):
        known_source("coco2015")
    monkeypatch.setenv("CAPTIONLENS_MIRROR", "ftp://mirror")
    with pytest.raises(OptionError, match="CAPTIONLENS_MIRROR"):
        download_dataset("coco2017", tmp_path / "new")


def test_every_known_archive_has_a_checksum() -> None:
    for source in SOURCES.values():
        for archive in source.archives:
            assert archive.checksum is not None
            assert len(archive.checksum) == len("md5:") + 32


def test_download_command(coco_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(coco_site) as url:
        monkeypatch.setenv("CAPTIONLENS_MIRROR", url)
        result = run_cli("data", "download", "coco2014", tmp_path / "coco")
    assert result.stdout == ""
    assert "coco2014 is in" in result.stderr
    assert os.path.isdir(tmp_path / "coco" / "train2014")  # noqa: PTH112
