"""`captionlens caption`: caption files, folders, a list of files, or an image on stdin."""

from pathlib import Path
from typing import Any

import click

from captionlens.cli import Command
from captionlens.cli.options import captioning_options, source_options


@click.command(cls=Command)
@source_options
@captioning_options
@click.pass_context
def caption(
    context: click.Context,
    /,
    sources: dict[str, Any],
    **how: Any,
) -> None:
    """Caption photographs.

    PATH is a photograph, a folder of photographs, or - for an image on stdin. Captions go to stdout; a
    photograph that cannot be read is named on stderr, the others go on, and the exit code is 1.

    With -o, --sidecar or --explain, photographs that are captioned already and have not changed since are skipped:
    the same command goes on where it was interrupted, and next week captions what is new.

    A caption of a photograph that the model may not know begins with "not sure: ". With --unsure withhold, or below
    --min-confidence, it is replaced by a sentence that says so, and gets no sidecar and no figure.
    """
    if not sources["paths"] and sources["filelist"] is None:
        raise click.UsageError("name a photograph, a folder, a --filelist, or -")
    from captionlens.cli.captioning import Captioning
    from captionlens.cli.collection import tell, tell_left_out
    from captionlens.cli.sources import gather

    captioning = Captioning(**how)
    found = gather(**sources)
    tell_left_out(found, quiet=captioning.quiet)
    many = len(found.photographs) != 1 or sources["filelist"] is not None or any(map(_is_folder, sources["paths"]))
    counts = captioning.run(found.photographs, many=many)
    tell(counts, quiet=captioning.quiet)
    if counts.failures or found.problems:
        context.exit(1)


def _is_folder(path: str) -> bool:
    return Path(path).is_dir()
