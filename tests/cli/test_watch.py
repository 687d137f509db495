"""`captionlens watch` as a process: what arrives is captioned once, when it is whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.cli import COMMAND, run_cli
from helpers.waiting import eventually as eventually_within

pytestmark = pytest.mark.slow

WATCHING = "Ctrl-C ends it"


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something comes to hold, on a busy machine too."""
    return eventually_within(holds, seconds=60)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder with one photograph in a sub-folder."""
    folder = tmp_path / "inbox"
    (folder / "2024").mkdir(parents=True)
    draw(folder / "2024" / "first.jpg", "red")
    return folder


def draw(path: Path, colour: str) -> Path:
    picture = Image.new("RGB", (400, 300), colour)
    picture.paste("white", (50, 50, 200, 200))
    picture.save(path)
    return path


@contextmanager
def watched(
    inbox: Path, log: Path, *options: str | Path, before: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work, after another that starts it; it must end well when it is terminated."""
    command = [*before, *COMMAND, "watch", inbox, "--settle", "0.5", *options]
    with log.open("wb") as stderr, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr) as process:
        try:
            assert eventually(lambda: WATCHING in log.read_text() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def captions(path: Path) -> dict[str, Any]:
    """The lines of a file of captions, by the photographs' names."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {Path(line["path"]).name: line for line in map(json.loads, lines)}


def test_what_arrives_is_captioned_once_and_as_a_whole(inbox: Path, small_model: Path, tmp_path: Path) -> None:
    output, log = tmp_path / "captions.jsonl", tmp_path / "log"
    options: Sequence[str | Path] = ("--model", small_model, "--sidecar=txt", "--format=jsonl", "-o", output)
    content = draw(tmp_path / "slow.jpg", "blue").read_bytes()
    with watched(inbox, log, *options):
        assert set(captions(output)) == {"first.jpg"}
        (inbox / "2025").mkdir()
        with (inbox / "2025" / "slow.jpg").open("wb") as slow:  # as a copy over a slow line
            for begin in range(0, len(content), 100):
                slow.write(content[begin : begin + 100])
                slow.flush()
                time.sleep(2 / (len(content) / 100))
        (inbox / "damaged.jpg").write_bytes(content[:-200])
        assert eventually(lambda: {"slow.jpg", "damaged.jpg"} <= set(captions(output)))
        assert "error" not in captions(output)["slow.jpg"]
        assert (inbox / "2025" / "slow.txt").read_text().strip() == captions(output)["slow.jpg"]["caption"]
        (inbox / "note.md").write_text("no photograph")
        time.sleep(2)
        assert log.read_text().count("damaged.jpg") == 1  # named once, however often it looks
        (inbox / "damaged.jpg").write_bytes(content)
        assert eventually(lambda: "error" not in captions(output)["damaged.jpg"])
    assert "slow.jpg" not in log.read_text()
    before = output.read_bytes()
    draw(inbox / "meanwhile.jpg", "green")
    with watched(inbox, log, *options):
        assert eventually(lambda: "meanwhile.jpg" in captions(output))
    assert "1 photographs captioned" in log.read_text()
    lines = {line.encode() for line in output.read_text().splitlines()}
    assert set(before.splitlines()) < lines  # none was made anew


def test_polling_finds_photographs_too(inbox: Path, small_model: Path, tmp_path: Path) -> None:
    with watched(inbox, tmp_path / "log", "--model", small_model, "--sidecar=xmp", "--poll", "0.3"):
        draw(inbox / "polled.png", "green")
        assert eventually(lambda: (inbox / "polled.xmp").exists())


def test_a_time_in_the_future_does_not_put_a_photograph_off(inbox: Path, small_model: Path, tmp_path: Path) -> None:
    with watched(inbox, tmp_path / "log", "--model", small_model, "--sidecar=txt"):
        new = draw(tmp_path / "new.jpg", "green")
        os.utime(new, (time.time() + 86400,) * 2)
        shutil.copy2(new, inbox / "new.jpg")
        assert eventually(lambda: (inbox / "new.txt").exists())


def test_a_disk_that_is_full_does_not_end_it(inbox: Path, small_model: Path, tmp_path: Path) -> None:
    figures, log = tmp_path / "figures", tmp_path / "log"
    with watched(inbox, log, "--model", small_model, "--explain", figures):
        shutil.rmtree(figures)
        figures.write_text("in the way")
        draw(inbox / "new.jpg", "green")
        assert eventually(lambda: "figures" in log.read_text().split(WATCHING)[1])
        figures.unlink()
        draw(inbox / "newer.jpg", "blue")
        assert eventually(lambda: len(list(figures.rglob("newer.png"))) == 1)


def limited(name: str, most: int) -> list[str]:
    """The start of a command for which one of inotify's limits is lower, in a user namespace of its own."""
    script = f'echo {most} > /proc/sys/user/max_{name} && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces")
    return command


@pytest.mark.parametrize(("name", "most"), [("inotify_watches", 1), ("inotify_instances", 0)])
def test_a_limit_of_the_system_is_named(name: str, most: int, inbox: Path, small_model: Path) -> None:
    command = [*limited(name, most), *COMMAND, "watch", str(inbox), "--model", str(small_model), "--sidecar=txt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"captionlens: the folders cannot be watched: the system's limit fs.inotify.max_user_{name[8:]} is reached; "
        "raise it with sysctl, or let --poll SECONDS look into them instead"
    )
    assert "Traceback" not in done.stderr


def test_new_folders_beyond_the_limit_are_told(inbox: Path, small_model: Path, tmp_path: Path) -> None:
    before, log = limited("inotify_watches", 4), tmp_path / "log"  # the inbox, two folders, and one more to try
    with watched(inbox, log, "--model", small_model, "--sidecar=txt", before=before):
        (inbox / "2025").mkdir()
        draw(inbox / "2025" / "second.jpg", "green")
        assert eventually(lambda: (inbox / "2025" / "second.txt").exists())
        assert "limit" not in log.read_text()
        for name in ("2026", "2027"):
            (inbox / name).mkdir()
        assert eventually(lambda: "limit" in log.read_text())
        draw(inbox / "2027" / "third.jpg", "red")  # nobody tells of it
        draw(inbox / "fourth.jpg", "blue")
        assert eventually(lambda: (inbox / "fourth.txt").exists() and (inbox / "2027" / "third.txt").exists())
    told = "captionlens: new folders are not watched: the system's limit fs.inotify.max_user_watches is reached; "
    assert told in log.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name where captions are to stay"),
        (("-o", "captions.txt"), "name where captions are to stay"),
        (("--report", "page.html"), "--report is of one run"),
        (("--sidecar=txt", "--on-existing=overwrite"), "--on-existing is skip or fill here"),
    ],
)
def test_outputs_must_last(options: tuple[str, ...], message: str, inbox: Path) -> None:
    assert message in run_cli("watch", inbox, *options, code=2).stderr


def test_without_the_package_it_says_what_to_install(inbox: Path) -> None:
    script = "import sys; sys.modules['watchfiles'] = None; from captionlens.cli import main; main()"
    command = [sys.executable, "-c", script, "watch", str(inbox), "--sidecar=txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'captionlens[watch]'" in done.stderr
