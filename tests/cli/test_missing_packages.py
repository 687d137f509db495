"""Commands whose packages are not installed say what to install."""

import subprocess
import sys

import pytest

# Runs the command given as arguments as if the package given before them were not installed.
WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
from captionlens.cli import main
main()
"""


@pytest.mark.parametrize("package", ["torch", pytest.param("numba", marks=pytest.mark.slow)])
def test_training_without_its_packages(package: str) -> None:
    command = [sys.executable, "-c", WITHOUT, package, "train", "photographs", "-o", "run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"captionlens: this needs the package {package!r}: pip install 'captionlens[train]'\n"
