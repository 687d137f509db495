"""The folder that a packed data set is unpacked into."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from captionlens.datasets import packed_writing, read_dataset
from captionlens.datasets.packed_writing import unpack_dataset
from captionlens.errors import DatasetError
from captionlens.fetch import alone_in
from helpers.cli import COMMAND, run_cli
from helpers.download import small_photograph
from helpers.folders import write_files
from helpers.packed import Member, files_below, image, write_parquet, write_tar
from helpers.waiting import eventually


def test_captions_of_one_photograph_in_several_rows_come_together(tmp_path: Path) -> None:
    rows = [{"image": image(n // 5), "caption": f"caption {n}"} for n in range(10)]
    write_parquet(tmp_path / "in" / "0.parquet", rows[:7])
    write_parquet(tmp_path / "in" / "1.parquet", rows[7:])
    result = run_cli("data", "unpack", tmp_path / "in", tmp_path / "to")
    assert "entries with the photograph of another one, now together: 8" in result.stderr
    assert "2 photographs, 10 captions" in result.stderr
    assert sorted(len(record.captions) for record in read_dataset(tmp_path / "to").records) == [5, 5]


def test_damaged_files_are_told_and_the_others_are_not_lost(tmp_path: Path) -> None:
    source, to = tmp_path / "in", tmp_path / "to"
    for n in range(4):
        write_parquet(source / f"train-{n}.parquet", [{"image": image(n), "caption": f"a {n}"}])
    whole = (source / "train-1.parquet").read_bytes()
    (source / "train-1.parquet").write_bytes(whole[: len(whole) // 2])
    (source / "train-2.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    (source / "train-3.parquet").write_bytes(b"")
    result = run_cli("data", "unpack", source, to, code=1)
    one, two, three, last = result.stderr.splitlines()
    assert one.startswith(f"not unpacked: {source / 'train-1.parquet'}: damaged or cut off, after 0 rows (")
    assert two.startswith(f"not unpacked: {source / 'train-2.parquet'}: is a pointer of Git LFS, not the file itself:")
    assert three == f"not unpacked: {source / 'train-3.parquet'}: is empty"
    assert last == f"{to} is unfinished: mend these files or move them away, then run this again"
    with pytest.raises(DatasetError, match="is not unpacked to its end: run captionlens data unpack SOURCE DIR again"):
        read_dataset(to)
    (source / "train-1.parquet").write_bytes(whole)
    for n in (2, 3):
        (source / f"train-{n}.parquet").unlink()
    assert unpack_dataset(source, to).photographs == 2
    assert len(read_dataset(to).records) == 2


def test_what_is_in_the_folder_already_is_never_touched(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "a.tar", [("1.jpg", small_photograph(1)), ("1.txt", "one")])
    second = write_tar(tmp_path / "b.tar", [("1.jpg", small_photograph(2)), ("1.txt", "two")])
    write_files(tmp_path / "mine", {"letter.txt": "dear"})
    with pytest.raises(DatasetError, match="is not empty: choose another folder"):
        unpack_dataset(first, tmp_path / "mine")
    with pytest.raises(DatasetError, match="is not empty: choose another folder"):
        unpack_dataset(first, tmp_path)
    unpack_dataset(first, tmp_path / "to")
    with pytest.raises(DatasetError, match=rf"holds what was unpacked of {first}: choose another"):
        unpack_dataset(second, tmp_path / "to")
    write_tar(first, [("1.jpg", small_photograph(3)), ("1.txt", "three")])
    with pytest.raises(DatasetError, match=r"is unpacked already, and its source, .* have changed since: unpack into"):
        unpack_dataset(first, tmp_path / "to")
    assert read_dataset(tmp_path / "to").records[0].captions == ("one",)
    for nothing, cause in ((tmp_path / "mine", "holds no .tar and no .parquet"), (tmp_path / "gone", "no such file")):
        with pytest.raises(DatasetError, match=cause):
            unpack_dataset(nothing, tmp_path / "other")


def test_the_disk_and_other_processes_are_minded(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "a.tar", [("1.jpg", small_photograph(1)), ("1.txt", "one")])
    with pytest.raises(DatasetError, match=r"unpacking needs about 10,240 bytes, 100 are free"):
        unpack_dataset(file, tmp_path / "to", free_bytes=lambda folder: 100)
    lock, refusal = alone_in(tmp_path / "to" / ".unpacked", wait=False), "another process is unpacking into it"
    with lock, pytest.raises(DatasetError, match=refusal):
        unpack_dataset(file, tmp_path / "to")
    assert unpack_dataset(file, tmp_path / "to").photographs == 1


def test_an_interrupted_call_is_resumed_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shard in range(3):
        rows = [{"image": image(4 * shard + n // 2), "caption": f"text {shard} {n}"} for n in range(8)]
        write_parquet(tmp_path / "in" / f"train-{shard}.parquet", rows)
    whole = unpack_dataset(tmp_path / "in", tmp_path / "whole")
    write, written = packed_writing._write, 0

    def killed(path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if written == 6:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(packed_writing, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        unpack_dataset(tmp_path / "in", tmp_path / "to")
    with pytest.raises(DatasetError, match="is not unpacked to its end"):
        read_dataset(tmp_path / "to")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "to" / "images").rglob("*.jpg")}
    cut = tmp_path / "to" / "images" / "train-1" / "000001.jpg"
    cut.write_bytes(cut.read_bytes()[:-1] + b"?")  # the same size, but of an earlier file
    assert unpack_dataset(tmp_path / "in", tmp_path / "to") == whole
    ours, theirs = files_below(tmp_path / "to"), files_below(tmp_path / "whole")
    assert ours == theirs
    assert len(times) == 5
    assert [path for path, time in times.items() if path.stat().st_mtime_ns != time] == [cut]


@pytest.mark.slow
def test_a_killed_process_is_resumed_with_the_same_result(tmp_path: Path) -> None:
    for shard in range(4):
        members: list[Member] = []
        for n in range(500):
            content = small_photograph(n % 256) + bytes([shard, n // 256])
            members += [(f"{n}.jpg", content), (f"{n}.txt", f"text {shard} {n}")]
        write_tar(tmp_path / "in" / f"{shard}.tar", members)
    unpack_dataset(tmp_path / "in", tmp_path / "whole")
    command = [*COMMAND, "data", "unpack", str(tmp_path / "in"), str(tmp_path / "to")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    eventually(lambda: (tmp_path / "to" / ".unpacked" / "0.tar.jsonl").exists() or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "to" / "captions.jsonl").exists()
    run_cli("data", "unpack", tmp_path / "in", tmp_path / "to", "--quiet")
    assert files_below(tmp_path / "to") == files_below(tmp_path / "whole")


def test_it_is_a_data_set_for_the_check(tmp_path: Path) -> None:
    rows = [{"image": image(n), "caption": f"circle {n}"} for n in range(4)] + [
        {"image": image(3), "caption": "circle 3"}
    ]
    write_parquet(tmp_path / "in" / "train.parquet", rows)
    run_cli("data", "unpack", tmp_path / "in", tmp_path / "to")
    report = json.loads(run_cli("data", "check", tmp_path / "to", "--json").stdout)
    assert report["ok"] is True
    assert "1 captions are there twice for one photograph, and count once" in report["notes"]
