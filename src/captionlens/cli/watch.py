"""`captionlens watch`: caption what arrives in folders, until it is stopped."""

from typing import Any

import click

from captionlens.cli import Command
from captionlens.cli.options import captioning_options, pattern_options
from captionlens.errors import MissingExtra


@click.command(cls=Command)
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=click.Path(exists=True, file_okay=False))
@pattern_options
@click.option(
    "--settle",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="A file that has not changed for so long is whole.",
)
@click.option(
    "--poll",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Look into all folders this often, where they tell nothing of changes: network drives.",
)
@captioning_options
def watch(
    folders: tuple[str, ...],
    patterns: dict[str, Any],
    settle: float,
    poll: float | None,
    **how: Any,
) -> None:
    """Caption photographs as they arrive in folders and their sub-folders.

    First everything is captioned that has no caption yet, as by `captionlens caption -r` with the same options; then
    what arrives or changes, until Ctrl-C. Started again, it goes on where it was.

    Captions must last: name -o, --sidecar, --embed or --explain. A photograph that cannot be read is named once, and
    tried again when it changes.
    """
    outputs = how["outputs"]
    if outputs["report"] is not None:
        raise click.UsageError("--report is of one run: make it with captionlens caption")
    if not (outputs["sidecar"] or outputs["embed"] or outputs["explain"] or _lasts(outputs)):
        raise click.UsageError(
            "name where captions are to stay: -o with --format json, jsonl or csv, --sidecar, --embed or --explain"
        )
    if outputs["on_existing"] not in ("skip", "fill"):
        raise click.UsageError("--on-existing is skip or fill here: what has a caption is never captioned again")
    try:
        from captionlens.cli.watching import Watching
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "watch") from error
    from captionlens.cli.captioning import Captioning

    Watching(Captioning(**how), folders, patterns, settle=settle, poll=poll).run()


def _lasts(outputs: dict[str, Any]) -> bool:
    return outputs["output"] is not None and outputs["format_"] in ("json", "jsonl", "csv")
