"""The command line: one file per command, each with its options and one call of the library."""

import errno
import importlib
import logging
import sys
from typing import Any

import click

from captionlens._version import __version__
from captionlens.errors import CaptionlensError, MissingExtra, OptionError

_TRAINING_PACKAGES = (
    "torch", "lightning", "yaml", "onnx", "onnxscript", "safetensors", "matplotlib", "tensorboard", "numba"
)  # fmt: skip
_COMMANDS = ("caption", "watch", "data", "extract", "train", "evaluate", "score", "export", "model", "serve")


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Command(click.Command):
    """A command with -h and the width of our help, however it is reached.

    click takes both from the group above, and keeps the help option of a command's first use.
    """

    def __init__(self, *arguments: Any, **given: Any) -> None:
        super().__init__(*arguments, **given)
        self.context_settings = _SETTINGS | dict(self.context_settings)


class Group(click.Group):
    """A group of such commands, and itself one."""

    command_class = Command

    def __init__(self, *arguments: Any, **given: Any) -> None:
        super().__init__(*arguments, **given)
        self.context_settings = _SETTINGS | dict(self.context_settings)


class _Commands(Group):
    """A group that imports a command only when it is used, so that --help is quick.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of their usual use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"captionlens.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; report an error that the user can mend in one line."""
        try:
            return super().invoke(ctx)
        except CaptionlensError as error:
            problem, code = str(error), 2 if isinstance(error, OptionError) else 1
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _TRAINING_PACKAGES:
                raise
            problem, code = str(MissingExtra(package, "train")), 1
        except KeyboardInterrupt:
            problem, code = "interrupted", 130
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has closed the pipe
                raise
            # A full disk, a folder without permission: the file's name is in the message.
            problem, code = str(error), 1
        click.echo(f"captionlens: {problem}", err=True)
        raise click.exceptions.Exit(code)


class _ToStderr(logging.Handler):
    """Handler that writes messages of the library, a line each, between the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


@click.command("captionlens", cls=_Commands)
@click.version_option(__version__, prog_name="captionlens")
def main() -> None:
    """Caption photographs, with an attention map for every word."""


def show_messages(quiet: bool) -> None:
    """Let the library's messages reach stderr: all of them, or warnings only."""
    logger = logging.getLogger("captionlens")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    if not logger.handlers:
        logger.addHandler(_ToStderr())
        logger.propagate = False
