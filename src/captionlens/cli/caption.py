"""`captionlens caption`: caption files, folders, a list of files, or an image on stdin."""

from contextlib import ExitStack
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
    _check_shown(search, outputs)
    from captionlens.cli.collection import Counts, distribute, left_to_caption, tell, tell_left_out
    from captionlens.cli.sinks import open_lasting, open_passing
    from captionlens.cli.sources import gather
    from captionlens.outputs.wording import Wording

    wording = Wording(outputs["purpose"], outputs["template"], outputs["max_characters"])
    found = gather(**sources)
    tell_left_out(found, quiet=quiet)
    photographs = found.photographs
    many = len(photographs) != 1 or sources["filelist"] is not None or any(map(_is_folder, sources["paths"]))
    with ExitStack() as stack:
        names = [photograph.name for photograph in photographs]
        worded = {name: outputs[name] for name in ("purpose", "template", "max_characters")}
        options = search | worded | {"batch size": batch_size}
        lasting = stack.enter_context(open_lasting(names, many, model=model, options=options, quiet=quiet, **outputs))
        left = left_to_caption(photographs, [] if outputs["report"] else lasting, checksum=outputs["checksum"])
        counts = Counts(len(photographs), len(photographs) - len(left))
        if left or not lasting:
            from captionlens.runtime.captioner import load

            captioner = load(model, **computing)
            if search["min_confidence"] is not None and captioner.calibration is None:
                raise click.UsageError(
                    f"--min-confidence needs a calibrated model; {captioner.name} is not (captionlens model calibrate)"
                )
            request = captioner.request(**search)
            captions = captioner.caption_many(left.values(), batch_size=batch_size, options=request, numbers=left)
            passing = stack.enter_context(open_passing(len(left), many, captioner.name, request, **outputs))
            distribute(map(wording.apply, captions), [*lasting, *passing], counts, quiet=quiet)
    tell(counts, quiet=quiet)
    if counts.failed or found.problems:
        context.exit(1)


def _is_folder(path: str) -> bool:
    return Path(path).is_dir()


def _check_shown(search: dict[str, Any], outputs: dict[str, Any]) -> None:
    """Refuse options that cost time but change no output."""
    in_json = outputs["format_"] in ("json", "jsonl")
    if search["faithfulness"] and not in_json and outputs["report"] is None:
        raise click.UsageError("--faithfulness shows in --format json or jsonl, or in a --report")
    if search["alternatives"] and not in_json:
        raise click.UsageError("--alternatives shows in --format json or jsonl")
