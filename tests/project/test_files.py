"""Files appear whole or not at all."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from captionlens import files
from captionlens.files import atomic_open, atomic_path, sha256, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with atomic_open(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert names(tmp_path) == ["result.json"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    for failure in (ValueError, KeyboardInterrupt):
        with pytest.raises(failure), atomic_open(path) as file:
            file.write(b"new")
            raise failure
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass  # nothing was written
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


def test_the_temporary_file_is_in_the_same_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "result") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".captionlens-")
        temporary.write_text("new")
    assert (tmp_path / "result").read_text() == "new"


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    code = (
        "import os, sys\nfrom captionlens.files import atomic_open\n"
        "with atomic_open(sys.argv[1]) as file:\n    file.write(b'new'); file.flush(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9
    assert path.read_text() == "old"
    (leftover,) = set(names(tmp_path)) - {"result"}
    assert leftover.startswith(files._OURS)
    mine = tmp_path / f"{files._OURS}00000000.{os.getpid()}.tmp"
    mine.touch()  # as of a thread that is writing
    files._swept.discard(tmp_path)
    write_text(path, "new")
    assert names(tmp_path) == sorted([mine.name, "result"])


def test_names_as_long_as_can_be(tmp_path: Path) -> None:
    write_text(tmp_path / ("a" * 255), "whole")
    assert (tmp_path / ("a" * 255)).read_text() == "whole"


def test_text_is_utf8_and_lines_stay_as_they_are(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "Hündchen 犬\n")
    assert (tmp_path / "text").read_bytes() == "Hündchen 犬\n".encode()
    write_bytes(tmp_path / "bytes", b"\0\r\n")
    assert (tmp_path / "bytes").read_bytes() == b"\0\r\n"


def test_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("old")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "new"
    assert names(tmp_path / "there") == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    """As for /dev/null and /dev/stdout, which a rename would replace."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "through")
    reader.join(10)
    assert read == ["through"]
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_text(tmp_path / "folder", "x")
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "file", "x")
    assert names(tmp_path) == ["folder"]


def test_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
