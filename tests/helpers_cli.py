"""Run the command as a user does."""

import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "captionlens"]


def run_cli(*arguments: str | Path, code: int = 0, **settings: object) -> subprocess.CompletedProcess[str]:
    """`captionlens ARGUMENTS`; fails with its output where the exit code is not `code`."""
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=600, **settings)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
