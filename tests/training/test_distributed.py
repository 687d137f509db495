"""Two processes under torchrun: the captioner of one process, one voice, and resuming with another number of them."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from captionlens.datasets.scenes import draw_scenes
from captionlens.errors import OptionError
from captionlens.training import fit
from captionlens.training.distributed import Processes
from helpers.cli import SMALL_CAPTIONER, run_cli, wait_for
from helpers.waiting import eventually

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "captionlens"]
SETTINGS = [
    *SMALL_CAPTIONER,
    "--precision=32",
    "--set=network.dropout=0",  # each process draws its own
    "--set=doubly_stochastic=0.5",
    "--set=attention_entropy=0.1",
    "--set=batch_captions=16",  # three photographs, or one at an end
    "--set=epochs=3",
]


@pytest.fixture(scope="module")
def alone(small_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    run_cli("train", small_scenes, "-o", run, *SETTINGS, "--no-export")
    return run


def together(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`captionlens ARGUMENTS` in two processes."""
    done = subprocess.run([*TORCHRUN, *map(str, arguments)], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def lives(process: str) -> bool:
    """Whether a process is there, and is not one that has ended and nobody asked how."""
    try:
        return "\nState:\tZ" not in Path("/proc", process, "status").read_text()
    except OSError:
        return False


def assert_like(run: Path, alone: Path) -> None:
    """History, kept weights and sample captions are the same but for rounding."""
    ours, theirs = (json.loads((path / "summary.json").read_text())["history"] for path in (run, alone))
    assert len(ours) == 3
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-4)
    weights, expected_weights = (safetensors.numpy.load_file(path / "best.safetensors") for path in (run, alone))
    assert weights.keys() == expected_weights.keys()
    for name, values in weights.items():
        np.testing.assert_allclose(values, expected_weights[name], rtol=0.01, atol=1e-4, err_msg=name)
    assert (run / "samples.jsonl").read_text() == (alone / "samples.jsonl").read_text()


def test_two_processes_do_what_one_does(small_scenes: Path, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "two"
    done = together("train", small_scenes, "-o", run, *SETTINGS)
    assert_like(run, alone)
    for message in ("features of 108 photographs, 108 of them new", "training on 4", "kept epoch 3", "model in"):
        assert done.stderr.count(message) == 1 + (message == "kept epoch 3"), done.stderr  # the log and the last line
    assert {path.name for path in run.iterdir()} == {path.name for path in alone.iterdir()} | {"model"}
    assert json.loads((run / "summary.json").read_text())["machine"]["processes"] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_run_of_two_goes_on_in_one(small_scenes: Path, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    arguments = ["train", str(small_scenes), "-o", str(run), "--features", str(alone / "features"), *SETTINGS]
    arguments += ["--no-export"]
    process = subprocess.Popen([*TORCHRUN, *arguments], stderr=subprocess.DEVNULL)
    wait_for(run / "last.ckpt", process)
    trained_by = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(trained_by) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert eventually(lambda: not any(map(lives, trained_by)), seconds=60)
    assert (run / "last.ckpt").exists()
    assert not (run / "summary.json").exists()
    assert "going on from" in run_cli(*arguments).stderr
    assert_like(run, alone)


def test_what_the_user_did_wrong_is_told_once_and_ends_all(small_scenes: Path, tmp_path: Path) -> None:
    done = together("train", small_scenes, "-o", tmp_path / "run", "--set=epochs=0", code=1)
    assert done.stderr.count("epochs must be at least 1") == 1
    assert not re.search(r"captionlens/\w+/\w+\.py", done.stderr)  # of our own files, no trace


@pytest.mark.parametrize(("processes", "cards"), [(3, 2), (8, 1)])
def test_more_processes_than_cards_are_refused(processes: int, cards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    with pytest.raises(OptionError, match=f"{processes} processes for {cards} CUDA cards"):
        fit._devices("cuda", "32", Processes(0, processes, processes))
    assert fit._devices("cpu", "32", Processes(0, processes, processes)) == ("cpu", "32-true")


def test_more_processes_than_validation_photographs_are_refused(tmp_path: Path) -> None:
    scenes = draw_scenes(tmp_path / "scenes", images=12, seed=5)
    done = together("train", scenes, "-o", tmp_path / "run", *SETTINGS, code=1)
    assert done.stderr.count("photographs of the val split: 1, too few for 2 processes") == 1
