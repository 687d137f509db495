"""The project itself: what importing costs, that every command explains itself, and that its papers agree."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import captionlens._version
from captionlens.runtime import EXTENSIONS
from captionlens.runtime.images import read_image
from helpers.paths import REPOSITORY

PACKAGE = REPOSITORY / "src" / "captionlens"
HEAVY = (
    "torch",
    "lightning",
    "onnxruntime",
    "onnx",
    "fastapi",
    "uvicorn",
    "ray",
    "matplotlib",
    "timm",
    "h5py",
)
PHOTOGRAPHS = REPOSITORY / "examples" / "photographs"

# Prints, as JSON, the heavy modules that running the code before it has loaded.
REPORT = f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"

# Asks every command for its help, those inside groups too, and prints {command: [exit code, help]}.
ALL_HELP = """
import json, sys
import click
from click.testing import CliRunner
from captionlens.cli import main

answers = {}

def ask(command, path):
    result = CliRunner().invoke(main, [*path, "--help"])
    answers[" ".join(path)] = [result.exit_code, result.output]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            ask(command.get_command(context, name), [*path, name])

ask(main, [])
loaded = [name for name in ("torch", "onnxruntime") if name in sys.modules]
print(json.dumps({"answers": answers, "loaded": loaded}))
"""


def run_python(code: str) -> Any:
    """What a fresh interpreter prints, read as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def texts(*folders: Path) -> list[tuple[Path, str]]:
    """All files below `folders` that are text, with their text."""
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            try:
                found.append((path, path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue
    return found


def test_importing_the_package_is_light() -> None:
    assert run_python("import captionlens" + REPORT) == []


def test_every_command_explains_itself_without_loading_a_network() -> None:
    result = run_python(ALL_HELP)
    assert {"", "caption", "data", "data scenes", "train", "evaluate"} <= set(result["answers"])
    for command, (exit_code, output) in result["answers"].items():
        assert exit_code == 0, command
        assert "Usage:" in output, command
        if "COMMAND" not in output.splitlines()[0]:
            assert "--quiet" in output, f"{command} has no --quiet"
    assert result["loaded"] == []


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("captionlens")
    if not command.exists():
        pytest.skip("captionlens is not installed beside this Python")
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: captionlens" in done.stdout


def test_the_changelog_knows_the_version() -> None:
    version = re.escape(captionlens._version.__version__)
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{version}\]?", changelog, re.MULTILINE)


def test_every_module_says_what_it_is() -> None:
    modules = [path for folder in (PACKAGE, REPOSITORY / "tests") for path in folder.rglob("*.py")]
    assert len(modules) > 20
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in modules
        if path.name != "_version.py" and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_file_names_a_place_on_one_machine() -> None:
    home = re.compile(r"(?<![\w.])/(?:home|root|Users)/\w")
    here = [str(REPOSITORY)] if len(REPOSITORY.parts) > 2 else []
    found = texts(PACKAGE, REPOSITORY / "tests", REPOSITORY / "docs", REPOSITORY / "examples")
    found += [
        (path, path.read_text(encoding="utf-8"))
        for path in REPOSITORY.iterdir()
        if path.suffix in (".md", ".toml", ".txt") or path.name in ("Makefile", "NOTICE")
    ]
    named = [
        str(path.relative_to(REPOSITORY))
        for path, text in found
        if home.search(text) or any(place in text for place in here)
    ]
    assert named == []


def test_every_dependency_is_pinned_to_a_version_that_fits() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(line) for line in project["dependencies"] + extras["train"] + extras["dev"]]
    pins: dict[str, str] = {}
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, version = line.partition("==")
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), line  # exact, and no build of one machine ('+cpu')
        pins[canonicalize_name(name)] = version
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if name != "captionlens":
            assert requirement.specifier.contains(pins[name]), str(requirement)


def test_example_photographs_are_readable_and_accounted_for() -> None:
    account = (PHOTOGRAPHS / "README.md").read_text(encoding="utf-8")
    photographs = [path for path in PHOTOGRAPHS.iterdir() if path.suffix in EXTENSIONS]
    assert len(photographs) >= 5
    assert {path.name for path in photographs} == set(re.findall(r"^\| `(.+?)` \|", account, re.MULTILINE))
    for path in photographs:
        assert max(read_image(path).size) <= 640
        assert path.stat().st_size < 150_000


def test_continuous_integration_can_be_started() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_no_two_modules_share_a_name() -> None:
    """A command's module is named after the command, and the parts of a room by their own names."""
    names = [
        path.stem for path in PACKAGE.rglob("*.py") if path.parent.name != "cli" and not path.stem.startswith("__")
    ]
    assert sorted(set(names)) == sorted(names)
