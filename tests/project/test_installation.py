"""A fresh environment: captioning is small to install, brings no torch, and needs no network."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from helpers.paths import REPOSITORY

pytestmark = pytest.mark.slow

LIMIT = 250e6  # bytes of site-packages

# Any attempt to reach another machine ends the command.
OFFLINE = """
import socket, sys

def refuse(*arguments, **more):
    raise AssertionError("reached for the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from captionlens.cli import main

sys.argv = ["captionlens", "caption", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with captionlens and what it needs, as `pip install .` makes it."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    command: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
    ]
    constraints: list[str | Path] = ["-c", REPOSITORY / "constraints.txt"]
    done = subprocess.run([*command, *constraints, REPOSITORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_is_small_and_brings_no_torch(fresh: Path) -> None:
    (packages,) = fresh.glob("lib/python*/site-packages")
    assert not (packages / "torch").exists()
    size = sum(file.lstat().st_size for file in packages.rglob("*") if file.is_file())
    assert size < LIMIT, f"{size / 1e6:.0f} MB"


@pytest.mark.skipif(sys.platform == "win32", reason="the environment lies elsewhere there")
def test_it_captions_without_a_network(fresh: Path, tmp_path: Path) -> None:
    photograph = REPOSITORY / "examples" / "photographs" / "photographer.jpg"
    command: list[str | Path] = [fresh / "bin" / "python", "-c", OFFLINE, photograph]
    home = tmp_path / "home"
    home.mkdir()
    surroundings = os.environ | {"HOME": str(home), "TMPDIR": str(home)}
    surroundings.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=surroundings)
    assert done.returncode == 0, done.stderr
    assert "camera" in done.stdout
    assert list(home.iterdir()) == []  # ONNX Runtime would note down what is done, to tell its makers
