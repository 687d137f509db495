"""`captionlens caption`: caption files, folders, a list of files, or an image on stdin."""

from pathlib import Path
from typing import Any

import click

from captionlens.cli import Command
from captionlens.cli.options import FOLDER, device_options, output_options, search_options, source_options


@click.command(cls=Command)
@source_options
@click.option("--model", type=FOLDER, help="A model directory; by default the one in the package.")
@search_options
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@device_options
@output_options
@click.option("--quiet", is_flag=True, help="No progress bar; failures are still reported.")
@click.pass_context
def caption(
    context: click.Context,
    sources: dict[str, Any],
    model: Path | None,
    search: dict[str, Any],
    batch_size: int,
    computing: dict[str, Any],
    outputs: dict[str, Any],
    quiet: bool,
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

    captioning = Captioning(
        model=model, search=search, batch_size=batch_size, computing=computing, outputs=outputs, quiet=quiet
    )
    found = gather(**sources)
    tell_left_out(found, quiet=quiet)
    many = len(found.photographs) != 1 or sources["filelist"] is not None or any(map(_is_folder, sources["paths"]))
    counts = captioning.run(found.photographs, many=many)
    tell(counts, quiet=quiet)
    if counts.failures or found.problems:
        context.exit(1)


def _is_folder(path: str) -> bool:
    return Path(path).is_dir()
