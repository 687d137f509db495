"""Every command explains itself, at once: help loads neither a network nor what networks are made of."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from captionlens._version import __version__
from captionlens.cli import main
from captionlens.cli.data import check
from captionlens.cli.serve import serve

SLOW = ("numpy", "PIL", "onnxruntime", "torch", "lightning", "h5py", "matplotlib", "yaml", "tokenizers", "onnx")

# Prints what the help of one command, given as arguments, has loaded of SLOW.
HELP = f"""
import json, sys
from captionlens.cli import main
try:
    main([*sys.argv[1:], "--help"])
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([name for name in {SLOW!r} if name in sys.modules]))
"""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


ALL = commands(main)


def test_all_commands_are_there() -> None:
    assert {
        (), ("caption",), ("data", "check"), ("data", "download"), ("data", "scenes"), ("extract",), ("train",),
        ("evaluate",), ("score",), ("export",), ("model", "show"), ("model", "check"), ("model", "calibrate"),
    } <= set(ALL)  # fmt: skip


@pytest.mark.parametrize("command", ALL, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(command: tuple[str, ...], option: str) -> None:
    result = CliRunner().invoke(main, [*command, option], prog_name="captionlens")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith(" ".join(("Usage: captionlens", *command)))
    assert max(map(len, result.stdout.splitlines())) <= 100


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_help_loads_nothing_slow(command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", HELP, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"captionlens, version {__version__}\n"


def test_an_unknown_command() -> None:
    result = CliRunner().invoke(main, ["capture"])
    assert result.exit_code == 2
    assert "capture" in result.stderr


def test_a_command_has_its_help_whatever_used_it_before() -> None:
    """As tests and programs do that call a command without the group it belongs to."""
    assert serve.make_context("serve", []).help_option_names == ["-h", "--help"]
    assert check.make_context("check", ["."]).help_option_names == ["-h", "--help"]
    for path in (["serve"], ["data", "check"]):
        assert CliRunner().invoke(main, [*path, "-h"]).exit_code == 0
