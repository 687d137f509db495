"""The program exiftool, kept running: metadata of photographs read and written without touching their pixels.

ExifTool by Phil Harvey, https://exiftool.org; its option -stay_open takes many commands in one process.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable
from importlib import resources
from typing import IO, Any

from captionlens.errors import CaptionlensError, FileError

_MISSING = "--embed needs exiftool (https://exiftool.org): apt install libimage-exiftool-perl, or brew install exiftool"


class ExifTool:
    """A running exiftool, to be closed.

    Raises:
        CaptionlensError: it is not installed.
    """

    def __init__(self) -> None:
        program = shutil.which("exiftool")
        if program is None:
            raise CaptionlensError(_MISSING)
        config = resources.files("captionlens.outputs").joinpath("exiftool.config")
        self._process = subprocess.Popen(
            [program, "-config", str(config), "-stay_open", "True", "-@", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.communicate(b"-stay_open\nFalse\n")
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def read(self, path: str, *tags: str) -> dict[str, Any]:
        """Read tags of a file, by names with their groups, such as `XMP-dc:Description`; those it lacks are missing.

        Raises:
            FileError: it cannot be read.
        """
        out, problem = self._run(path, "-j", "-G1", "-struct", *(f"-{tag}" for tag in tags), path)
        try:
            (found,) = json.loads(out)
        except ValueError as error:
            raise FileError(path, f"exiftool: {_cause(problem, path)}") from error
        return dict(found)

    def write(self, path: str, to: str, tags: Iterable[tuple[str, str]]) -> None:
        """Write a copy of a photograph with other tags; everything else in it stays.

        Args:
            path: of the photograph.
            to: path of the copy, which must not exist.
            tags: names with their groups, and values. With + or - at its end, a name adds a value to a list or removes
                it; with ^, an empty value is written instead of removing the tag.

        Raises:
            FileError: exiftool cannot write files of this kind, or this one.
        """
        out, problem = self._run(path, *(f"-{tag}={value}" for tag, value in tags), "-o", to, path)
        if "1 image files created" not in out:
            raise FileError(path, f"exiftool: {_cause(problem, path)}")

    def _run(self, path: str, *arguments: str) -> tuple[str, str]:
        """Run one command; return what it prints and complains of."""
        command = b"".join(map(_line, arguments)) + b"-echo4\n{done}\n-execute\n"
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        try:
            stdin.write(command)
            stdin.flush()
            return _until(stdout, b"{ready}\n"), _until(stderr, b"{done}\n")
        except (OSError, EOFError) as error:
            raise FileError(path, "exiftool ended while it worked on this photograph") from error


def _line(argument: str) -> bytes:
    """An argument as a line of a list of arguments; one with line breaks as a string of C."""
    line = argument.encode("utf-8", "surrogateescape")
    if b"\n" in line or b"\r" in line or line.startswith((b"#", b" ")) or line != line.strip():
        escaped = line.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
        line = b"#[CSTR]" + escaped
    return line + b"\n"


def _until(stream: IO[bytes], end: bytes) -> str:
    lines = b""
    while not lines.endswith(end):
        line = stream.readline()
        if not line:
            raise EOFError
        lines += line
    return lines[: -len(end)].decode("utf-8", "replace")


def _cause(problem: str, path: str) -> str:
    """The first error of several messages, without the path, which stands before it already."""
    lines = [line for line in problem.splitlines() if line.startswith("Error")] or problem.splitlines() or ["no answer"]
    return lines[0].removeprefix("Error: ").removesuffix(f" - {path}")
