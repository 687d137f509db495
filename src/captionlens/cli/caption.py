"""`captionlens caption`: captions of files, folders, a list of files, or an image on stdin."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from captionlens.attention.report import ReportEntry
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
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0: one a core.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "jsonl", "csv", "coco"]),
    default="text",
    show_default=True,
)
@click.option("--attention", is_flag=True, help="Put the maps into json and jsonl.")
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Write the captions to FILE, not to stdout.")
@click.option("--sidecar", type=click.Choice(["txt", "xmp"]), help="Write each caption beside its photograph.")
@click.option(
    "--on-existing",
    type=click.Choice(["skip", "overwrite", "error"]),
    default="error",
    show_default=True,
    help="Where a sidecar exists already.",
)
@click.option("--explain", type=_FOLDER, metavar="DIR", help="A figure a photograph of where each word looked.")
@click.option("--report", type=_FILE, metavar="FILE.html", help="One page for all: hover a word, see its map.")
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
    batch_size: int,
    threads: int,
    format_: str,
    attention: bool,
    output: Path | None,
    sidecar: str | None,
    on_existing: str,
    explain: Path | None,
    report: Path | None,
    quiet: bool,
) -> None:
    """Caption photographs.

    PATH is a photograph, a folder of photographs, or - for an image on stdin. Captions go to stdout; a photograph
    that cannot be read is named on stderr, the others go on, and the exit code is 1.
    """
    from tqdm import tqdm

    from captionlens.outputs.formats import open_writer
    from captionlens.runtime.captioner import load

    if not paths and filelist is None:
        raise click.UsageError("name a photograph, a folder, a --filelist, or -")
    changes = {"beam": beam, "max_words": max_words}
    given = {name: value for name, value in changes.items() if value is not None}
    captioner = load(model, threads=threads)
    options = replace(
        captioner.options, **given, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    sources = list(_gather(paths, filelist, recursive))
    many = len(sources) != 1 or filelist is not None or any(Path(path).is_dir() for path in paths)
    failed = 0
    figures: set[str] = set()
    with ExitStack() as stack:
        stream = stack.enter_context(_stream(output))
        writer = stack.enter_context(open_writer(format_, stream, many=many, attention=attention))
        hidden = True if quiet or len(sources) == 1 else None
        bar = stack.enter_context(tqdm(total=len(sources), desc="captions", unit="photo", disable=hidden))

        def work() -> Iterator["ReportEntry"]:
            nonlocal failed
            for result in _captions(captioner, sources, batch_size, options):
                bar.update()
                writer.write(result)
                problem = str(result.error) if result.error else None
                if problem is None and sidecar is not None:
                    problem = _write_sidecar(result, sidecar, on_existing)
                if problem is None and explain is not None:
                    _write_figure(result, explain, figures)
                if problem is not None:
                    failed += 1
                    tqdm.write(f"captionlens: {problem}", file=sys.stderr)
                yield _entry(result)

        if report is not None:
            from captionlens.attention.report import write_report

            report.parent.mkdir(parents=True, exist_ok=True)
            write_report(report, work(), model=captioner.name, decoding=_describe(options))
        else:
            for _ in work():
                pass
    if failed:
        click.echo(f"captionlens: {failed} of {len(sources)} photographs failed", err=True)
        context.exit(1)


def _gather(paths: tuple[str, ...], filelist: Path | None, recursive: bool) -> Iterator[str | bytes]:
    """Paths of photographs in order, and the bytes of stdin for "-"."""
    from captionlens.errors import FileError
    from captionlens.runtime.images import EXTENSIONS

    for path in paths:
        if path == "-":
            yield sys.stdin.buffer.read()
        elif Path(path).is_dir():
            found = Path(path).rglob("*") if recursive else Path(path).iterdir()
            photographs = sorted(str(file) for file in found if file.suffix.lower() in EXTENSIONS and file.is_file())
            if not photographs:
                hint = "" if recursive else " (-r looks into sub-folders)"
                raise FileError(path, f"holds no photographs{hint}")
            yield from photographs
        else:
            yield path
    if filelist is not None:
        try:
            lines = filelist.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(filelist, getattr(error, "strerror", None) or str(error)) from error
        yield from (line for line in lines if line.strip())


def _captions(
    captioner: "Captioner", sources: list[str | bytes], batch_size: int, options: "DecodingOptions"
) -> Iterator["Caption"]:
    captions = captioner.caption_many(sources, batch_size=batch_size, options=options)
    for source, result in zip(sources, captions, strict=True):
        yield replace(result, path="-") if isinstance(source, bytes) else result


@contextmanager
def _stream(output: Path | None) -> Iterator[TextIO]:
    """Where captions go: stdout, or a file that appears when it is whole."""
    from captionlens.files import atomic_open

    if output is None:
        yield sys.stdout
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")  # type: ignore[type-var]
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


def _write_figure(result: "Caption", folder: Path, taken: set[str]) -> None:
    """The figure as PNG, named after the photograph; photographs of one name get a number."""
    from captionlens.files import atomic_path

    folder.mkdir(parents=True, exist_ok=True)
    stem = "stdin" if result.path in (None, "-") else Path(str(result.path)).stem
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    with atomic_path(folder / f"{name}.png") as path:
        result.figure().save(path, format="PNG")


def _entry(result: "Caption") -> "ReportEntry":
    from captionlens.attention.report import ReportEntry

    name = os.path.basename(result.path or "-")  # noqa: PTH119 (a name may end in a slash)
    if result.error is not None:
        return ReportEntry(name, error=str(result.error))
    return ReportEntry(
        name,
        image=result.image(),
        words=[word.text for word in result.words],
        probabilities=[word.probability for word in result.words],
        attention=result.attention,
    )


def _describe(options: "DecodingOptions") -> str:
    if options.temperature is not None:
        return f"sampled, temperature {options.temperature:g}, seed {options.seed}"
    return "greedy" if options.beam == 1 else f"beam {options.beam}"
