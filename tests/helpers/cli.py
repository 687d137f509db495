"""Run the command as a user does."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from captionlens.cli import main
from helpers.waiting import eventually

COMMAND = [sys.executable, "-m", "captionlens"]
# Options of `train` for a captioner that is trained in seconds.
SMALL_CAPTIONER = [
    "--backbone=efficientnet_lite0",
    "--set=min_count=1",
    "--set=network.units=64",
    "--set=network.attention=64",
    "--set=network.memory=64",
    "--set=network.embedding=64",
    "--set=beam=1",
]


def run_cli(*arguments: object, code: int = 0, **settings: Any) -> Result:
    """`captionlens ARGUMENTS` in this process, which spares its start; fails with its output on another exit code."""
    logger = logging.getLogger("captionlens")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    environment = dict(os.environ)
    try:
        done = CliRunner().invoke(main, list(map(str, arguments)), **settings)
    finally:  # a test after this one may look for the library's messages
        logger.setLevel(level)
        logger.propagate, logger.handlers = propagate, handlers
        for name in os.environ.keys() - environment.keys():  # nor is it to have what a command has set for itself
            del os.environ[name]
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, f"exit code {done.exit_code}\n{done.output}"
    return done


def run_process(
    *arguments: object, code: int = 0, timeout: float = 600, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own.

    Two runs that are to end with the same bits need it: loops compiled in a process differ in the last digits from
    those that it loads.
    """
    command = [*COMMAND, *map(str, arguments)]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, **settings
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a process has written a file, has ended, or has had five minutes."""
    eventually(lambda: path.exists() or process.poll() is not None, seconds=300)
