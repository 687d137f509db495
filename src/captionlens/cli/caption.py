"""`captionlens caption`: captions of files, folders, a list of files, or an image on stdin."""

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from captionlens.cli.options import device_options

if TYPE_CHECKING:
    from captionlens.errors import FileError
    from captionlens.runtime.caption import Caption
    from captionlens.runtime.captioner import Captioner
    from captionlens.runtime.decoding import DecodingOptions

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Photographs in sub-folders too.")
@click.option("--filelist", type=_FILE, help="A text file with one path a line; - in PATH reads an image.")
@click.option("--model", type=_FOLDER, help="A model directory; by default the one that comes along.")
@click.option("--beam", type=click.IntRange(min=1), help="Beam width; 1 is greedy.")
@click.option("--sample", "temperature", type=float, metavar="TEMPERATURE", help="Draw words at random.")
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="With --sample: the K likeliest words.")
@click.option("--top-p", type=float, default=1.0, help="With --sample: the likeliest words of mass P.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="With --sample.")
@click.option("--max-words", type=click.IntRange(min=1), help="Longer captions are cut.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="From 0 to 1: a less confident caption is not shown.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@device_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "jsonl", "csv", "coco"]),
    default="text",
    show_default=True,
)
@click.option("--attention", is_flag=True, help="Put the maps into json and jsonl.")
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Write the captions to FILE, not to stdout.")
@click.option("--sidecar", type=click.Choice(["txt", "xmp"]), help="Write captions beside the photographs.")
@click.option(
    "--on-existing",
    type=click.Choice(["skip", "overwrite", "error"]),
    default="error",
    show_default=True,
    help="Where a sidecar exists already.",
)
@click.option(
    "--faithfulness", is_flag=True, help="Blank out where each word looked: does the word depend on it? Slow."
)
@click.option("--explain", type=_FOLDER, metavar="DIR", help="Figures of where each word looked.")
@click.option("--report", type=_FILE, metavar="FILE.html", help="One page: hover a word, see its map.")
@click.option("--quiet", is_flag=True, help="No progress; failures are named nevertheless.")
@click.pass_context
def caption(
    context: click.Context,
    paths: tuple[str, ...],
    recursive: bool,
    filelist: Path | None,
    model: Path | None,
    beam: int | None,
    temperature: float | None,
    top_k: int,
    top_p: float,
    seed: int,
    max_words: int | None,
    min_confidence: float | None,
    batch_size: int,
    threads: int,
    device: str,
    format_: str,
    attention: bool,
    output: Path | None,
    sidecar: str | None,
    on_existing: str,
    faithfulness: bool,
    explain: Path | None,
    report: Path | None,
    quiet: bool,
) -> None:
    """Caption photographs.

    PATH is a photograph, a folder of photographs, or - for an image on stdin. Captions go to stdout; a
    photograph that cannot be read is named on stderr, the others go on, and the exit code is 1.

    With --min-confidence, a caption that is less likely to be right is replaced by a sentence that says so; no
    sidecar and no figure shows it.
    """
    from tqdm import tqdm

    from captionlens.errors import CaptionlensError
    from captionlens.outputs.formats import open_writer
    from captionlens.runtime.captioner import load

    if not paths and filelist is None:
        raise click.UsageError("name a photograph, a folder, a --filelist, or -")
    if faithfulness and format_ not in ("json", "jsonl") and report is None:
        raise click.UsageError("--faithfulness shows in --format json or jsonl, or in a --report")
    changes: dict[str, Any] = {"beam": beam, "max_words": max_words}
    given = {name: value for name, value in changes.items() if value is not None}
    captioner = load(model, threads=threads, device=device)
    if min_confidence is not None and captioner.calibration is None:
        raise click.UsageError(
            f"--min-confidence needs a calibrated model; {captioner.name} is not (captionlens model calibrate)"
        )
    options = replace(captioner.options, **given, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    sources, empty = _gather(paths, filelist, recursive)
    for problem in empty:
        click.echo(f"captionlens: {problem}", err=True)
    many = len(sources) != 1 or filelist is not None or any(Path(path).is_dir() for path in paths)
    if explain is not None:
        explain.mkdir(parents=True, exist_ok=True)
    failed = withheld = 0
    figures: set[str] = set()
    with ExitStack() as stack:
        stream = stack.enter_context(_stream(output))
        writer = stack.enter_context(open_writer(format_, stream, many=many, attention=attention))
        hidden = True if quiet or len(sources) == 1 else None
        bar = stack.enter_context(tqdm(total=len(sources), desc="captions", unit="photo", disable=hidden))

        def work() -> Iterator["Caption"]:
            nonlocal failed, withheld
            for result in _captions(captioner, sources, batch_size, options):
                bar.update()
                if min_confidence is not None and result.confidence is not None:
                    result = replace(result, withheld=result.confidence < min_confidence)
                withheld += result.withheld
                problem = str(result.error) if result.error else None
                if problem is None and faithfulness and not result.withheld:
                    try:
                        result = captioner.examine(result)
                    except CaptionlensError as error:  # the photograph has gone since
                        problem = str(error)
                writer.write(result)
                if problem is None and sidecar is not None:
                    problem = _write_sidecar(result, sidecar, on_existing)
                if problem is None and explain is not None and not result.withheld:
                    problem = _write_figure(result, explain, figures)
                if problem is not None:
                    failed += 1
                    tqdm.write(f"captionlens: {problem}", file=sys.stderr)
                yield result

        if report is not None:
            from captionlens.outputs.html_report import write_report

            report.parent.mkdir(parents=True, exist_ok=True)
            write_report(report, work(), model=captioner.name, decoding=_describe(options), examined=faithfulness)
        else:
            for _ in work():
                pass
    if withheld and not quiet:
        told = f"{withheld} of {len(sources)} captions are below the confidence {min_confidence:g} and not shown"
        click.echo(f"captionlens: {told}", err=True)
    if failed:
        click.echo(f"captionlens: {failed} of {len(sources)} photographs failed", err=True)
    if failed or empty:
        context.exit(1)


def _gather(
    paths: tuple[str, ...], filelist: Path | None, recursive: bool
) -> tuple[list[str | bytes], list["FileError"]]:
    """Paths of photographs in order, the bytes of stdin for "-", and what is wrong with the folders."""
    from captionlens.errors import FileError

    sources: list[str | bytes] = []
    problems = []
    for path in paths:
        if path == "-":
            sources.append(sys.stdin.buffer.read())
        elif Path(path).is_dir():
            try:
                sources += _photographs(Path(path), recursive)
            except FileError as error:
                problems.append(error)
        else:
            sources.append(path)
    if filelist is not None:
        try:
            lines = filelist.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(filelist, getattr(error, "strerror", None) or str(error)) from error
        sources += [line for line in lines if line.strip()]
    return sources, problems


def _photographs(folder: Path, recursive: bool) -> list[str]:
    from captionlens.errors import FileError
    from captionlens.runtime.images import EXTENSIONS

    try:
        found = [
            str(file)
            for file in (folder.rglob("*") if recursive else folder.iterdir())
            if file.suffix.lower() in EXTENSIONS and file.is_file()
        ]
    except OSError as error:
        raise FileError(folder, error.strerror or str(error)) from error
    if not found:
        raise FileError(folder, "holds no photographs" + ("" if recursive else " (-r looks into sub-folders)"))
    return sorted(found)


def _captions(
    captioner: "Captioner", sources: list[str | bytes], batch_size: int, options: "DecodingOptions"
) -> Iterator["Caption"]:
    captions = captioner.caption_many(sources, batch_size=batch_size, options=options)
    for source, result in zip(sources, captions, strict=True):
        yield _from_stdin(result) if isinstance(source, bytes) else result


def _from_stdin(result: "Caption") -> "Caption":
    from captionlens.errors import FileError

    error = result.error
    if isinstance(error, FileError):
        error = type(error)("-", error.cause)
    return replace(result, path="-", error=error)


@contextmanager
def _stream(output: Path | None) -> Iterator[TextIO]:
    """Where captions go: stdout, or a file that appears when it is whole."""
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


def _write_sidecar(result: "Caption", kind: Any, on_existing: Any) -> str | None:
    """Write a sidecar; returns what went wrong, if anything."""
    from captionlens.errors import FileError
    from captionlens.outputs.sidecar import write_sidecar

    if result.path in (None, "-"):
        return "-: an image from stdin has no place for a sidecar"
    try:
        write_sidecar(str(result.path), result, kind, on_existing)
    except FileError as error:
        return str(error)
    except OSError as error:
        return f"{result.path}: {error.strerror or error}"
    return None


def _write_figure(result: "Caption", folder: Path, taken: set[str]) -> str | None:
    """The figure as PNG, named after the photograph; photographs of one name get a number.

    Returns what went wrong, if anything.
    """
    from captionlens.errors import CaptionlensError
    from captionlens.files import atomic_path

    stem = "stdin" if result.path in (None, "-") else Path(str(result.path)).stem
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    try:
        with atomic_path(folder / f"{name}.png") as path:
            result.figure().save(path, format="PNG")
    except CaptionlensError as error:
        return str(error)
    except OSError as error:
        return f"{folder / name}.png: {error.strerror or error}"
    return None


def _describe(options: "DecodingOptions") -> str:
    if options.temperature is not None:
        return f"sampled, temperature {options.temperature:g}, seed {options.seed}"
    return "greedy" if options.beam == 1 else f"beam {options.beam}"
