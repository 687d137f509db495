"""`captionlens caption`: caption files, folders, a list of files, or an image on stdin."""

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from captionlens.cli import Command
from captionlens.cli.options import device_options, search_options
from captionlens.outputs import EMBEDDED_AT_MOST, FORMATS, ON_EXISTING, SIDECARS

if TYPE_CHECKING:
    from captionlens.outputs.sinks import Sink
    from captionlens.runtime.caption import Caption
    from captionlens.runtime.decoding import DecodingOptions

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Photographs in sub-folders too.")
@click.option("--include", multiple=True, metavar="PATTERN", help="Of folders, only paths like this: '2024/*.jpg'.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Of folders, no paths like this.")
@click.option("--filelist", type=_FILE, help="A text file with one path per line.")
@click.option("--model", type=_FOLDER, help="A model directory; by default the one in the package.")
@search_options
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@device_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
)
@click.option("--attention", is_flag=True, help="Include the attention maps in json and jsonl.")
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Write the captions to FILE, not to stdout.")
@click.option("--sidecar", type=click.Choice(SIDECARS), help="Write captions beside the photographs.")
@click.option(
    "--on-existing",
    type=click.Choice(ON_EXISTING),
    default="error",
    show_default=True,
    help="What to do if a sidecar exists already.",
)
@click.option("--explain", type=_FOLDER, metavar="DIR", help="Save attention figures, one per photograph.")
@click.option(
    "--report",
    type=_FILE,
    metavar="FILE.html",
    help="Write a page that shows the map of each word, to search and to correct captions in. Of more than "
    f"{EMBEDDED_AT_MOST} photographs the pictures lie beside it, in FILE_photographs.",
)
@click.option("--quiet", is_flag=True, help="No progress bar; failures are still reported.")
@click.pass_context
def caption(
    context: click.Context,
    paths: tuple[str, ...],
    recursive: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    filelist: Path | None,
    model: Path | None,
    search: dict[str, Any],
    batch_size: int,
    computing: dict[str, Any],
    format_: str,
    attention: bool,
    output: Path | None,
    sidecar: Any,
    on_existing: Any,
    explain: Path | None,
    report: Path | None,
    quiet: bool,
) -> None:
    """Caption photographs.

    PATH is a photograph, a folder of photographs, or - for an image on stdin. Captions go to stdout; a
    photograph that cannot be read is named on stderr, the others go on, and the exit code is 1.

    A caption of a photograph that the model may not know begins with "not sure: ". With --unsure withhold, or below
    --min-confidence, it is replaced by a sentence that says so, and gets no sidecar and no figure.
    """
    from captionlens.cli.sources import gather
    from captionlens.outputs.formats import open_writer
    from captionlens.outputs.html_report import open_report
    from captionlens.outputs.sinks import Figures, Sidecars
    from captionlens.runtime.captioner import load

    if not paths and filelist is None:
        raise click.UsageError("name a photograph, a folder, a --filelist, or -")
    _check_shown(search, format_, report)
    captioner = load(model, **computing)
    if search["min_confidence"] is not None and captioner.calibration is None:
        raise click.UsageError(
            f"--min-confidence needs a calibrated model; {captioner.name} is not (captionlens model calibrate)"
        )
    request = captioner.request(**search)
    found = gather(paths, filelist, recursive, include=include, exclude=exclude)
    photographs = found.photographs
    for problem in found.problems:
        click.echo(f"captionlens: {problem}", err=True)
    if found.left_out and not quiet:
        parts = ", ".join(f"{reason}: {count:,}" for reason, count in found.left_out.items())
        click.echo(f"captionlens: left out: {parts}", err=True)
    many = len(photographs) != 1 or filelist is not None or any(Path(path).is_dir() for path in paths)
    with ExitStack() as stack:
        stream = stack.enter_context(_stream(output))
        sinks: list[Sink] = [stack.enter_context(open_writer(format_, stream, many=many, attention=attention))]
        if sidecar is not None:
            sinks.append(Sidecars(sidecar, on_existing))
        if explain is not None:
            explain.mkdir(parents=True, exist_ok=True)
            sinks.append(Figures(explain))
        if report is not None:
            report.parent.mkdir(parents=True, exist_ok=True)
            about = {"model": captioner.name, "decoding": _describe(request.decoding)}
            opened = open_report(report, expected=len(photographs), examined=request.faithfulness, **about)
            sinks.append(stack.enter_context(opened))
        captions = captioner.caption_many(photographs, batch_size=batch_size, options=request)
        failed, withheld = _distribute(captions, sinks, len(photographs), quiet)
    if withheld and not quiet:
        click.echo(f"captionlens: {withheld} of {len(photographs)} captions are too unsure and not shown", err=True)
    if failed:
        click.echo(f"captionlens: {failed} of {len(photographs)} photographs failed", err=True)
    if failed or found.problems:
        context.exit(1)


def _check_shown(search: dict[str, Any], format_: str, report: Path | None) -> None:
    """Refuse options that cost time but change no output."""
    in_json = format_ in ("json", "jsonl")
    if search["faithfulness"] and not in_json and report is None:
        raise click.UsageError("--faithfulness shows in --format json or jsonl, or in a --report")
    if search["alternatives"] and not in_json:
        raise click.UsageError("--alternatives shows in --format json or jsonl")


def _distribute(captions: Iterator["Caption"], sinks: list["Sink"], total: int, quiet: bool) -> tuple[int, int]:
    """Write every caption to every sink; report failed photographs on stderr, and go on.

    Returns:
        Number of photographs that failed, and of captions that are withheld.
    """
    from tqdm import tqdm

    from captionlens.errors import CaptionlensError

    failed = withheld = 0
    hidden = True if quiet or total == 1 else None
    with tqdm(captions, total=total, desc="captions", unit="photo", disable=hidden) as bar:
        for result in bar:
            withheld += result.withheld
            problems = [] if result.error is None else [result.error]
            for sink in sinks:
                try:
                    sink.write(result)
                except CaptionlensError as error:
                    problems.append(error)
            failed += bool(problems)
            for problem in problems:
                tqdm.write(f"captionlens: {problem}", file=sys.stderr)
    return failed, withheld


@contextmanager
def _stream(output: Path | None) -> Iterator[TextIO]:
    """Open the output of captions: stdout, or a file that is written atomically."""
    from captionlens.files import atomic_open

    if output is None:
        yield sys.stdout
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def _describe(options: "DecodingOptions") -> str:
    if options.temperature is not None:
        return f"sampled, temperature {options.temperature:g}, seed {options.seed}"
    return "greedy" if options.beam == 1 else f"beam {options.beam}"
