"""The command line: one file a command, each of them parsing and one call."""

import importlib
import logging
import sys

import click

from captionlens._version import __version__
from captionlens.errors import CaptionlensError, OptionError

_COMMANDS = ("caption", "data", "extract", "train", "evaluate", "score", "export", "model")


class _Commands(click.Group):
    """Commands are imported when they are asked for, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"captionlens.cli.{cmd_name}"), cmd_name)
        return command


class _ToStderr(logging.Handler):
    """Messages of the library, a line each, between the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="captionlens")
def cli() -> None:
    """Caption photographs, and see for every word where the network looked."""


def show_messages(quiet: bool) -> None:
    """Let the library's messages reach stderr: all of them, or warnings only."""
    logger = logging.getLogger("captionlens")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    if not logger.handlers:
        logger.addHandler(_ToStderr())
        logger.propagate = False


def main() -> None:
    """The `captionlens` command. Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted."""
    try:
        cli()
    except OptionError as error:
        click.echo(f"captionlens: {error}", err=True)
        sys.exit(2)
    except CaptionlensError as error:
        click.echo(f"captionlens: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("captionlens: interrupted", err=True)
        sys.exit(130)
    except OSError as error:
        # A full disk, a folder without permission: the user's to mend, and the file's name is in the message.
        click.echo(f"captionlens: {error}", err=True)
        sys.exit(1)
