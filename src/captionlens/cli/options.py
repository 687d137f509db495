"""Options shared by several commands: data set, photographs, device, decoding, outputs."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionlens.cli import show_messages
from captionlens.outputs import EMBEDDED_AT_MOST, FORMATS, ON_EXISTING, PURPOSES, SIDECAR_NAMES, SIDECARS, SPREADSHEETS
from captionlens.runtime import UNSURE
from captionlens.runtime.devices import DEVICES

if TYPE_CHECKING:
    from captionlens.datasets import Dataset
    from captionlens.geometry.region import Region

Callback = Callable[..., Any]

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
_SHOWN = 5  # problems of a data set that are named before training


def in_one(command: Callback, name: str, options: Sequence[Callable[[Callback], Callback]]) -> Callback:
    """Add options to a command, which takes them as one argument `name`, a dict by the options' names."""
    others = len(getattr(command, "__click_params__", ()))  # options of its own, which stand below

    @functools.wraps(command)
    def collected(*arguments: Any, **given: Any) -> Any:
        return command(*arguments, **{name: {part: given.pop(part) for part in parts}}, **given)

    decorated: Callback = collected
    for option in reversed(options):
        decorated = option(decorated)
    parts = tuple(option.name for option in decorated.__click_params__[others:])  # type: ignore[attr-defined]
    return decorated


def comma_separated_numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
    """Parse an option such as 1,2.5; callback of click."""
    try:
        return tuple(float(number) for number in value.split(",")) if value else ()
    except ValueError as error:
        raise click.BadParameter(f"want numbers with commas between them, as 1,2.5, got {value!r}") from error


def data_options(
    command: Callback, seed: str = "Of the subset, and of splits where the data set has none."
) -> Callback:
    """Add DATASET..., --layout, --max-captions and --seed, in one argument `data` for `show_datasets`.

    Args:
        command: to decorate.
        seed: help of --seed.
    """
    options = (
        click.argument("datasets", nargs=-1, required=True, metavar="DATASET..."),
        click.option(
            "--layout",
            "layouts",
            multiple=True,
            help="How the data sets are laid out, once for all or once for each; by default it is recognised.",
        ),
        click.option(
            "--delimiter", metavar="C", help="Of tables: the character between cells; by default it is recognised."
        ),
        columns_option,
        click.option("--encoding", help="Of captions, where it is not UTF-8: cp1252, utf-16-le ..."),
        click.option("--max-captions", type=click.IntRange(min=1), help="A random subset of the training captions."),
        click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help=seed),
    )
    return in_one(command, "data", options)


def columns_option(command: Callback) -> Callback:
    """Add --columns, as pairs of a role and a name for `TableForm`."""
    option = click.option(
        "--columns",
        metavar="ROLE=NAME,...",
        callback=_columns,
        help="Of tables: names of the columns image, caption, split and id, as in image=Bild,caption=Text.",
    )
    return option(command)


def device_options(command: Callback) -> Callback:
    """Add --threads and --device, in one argument `computing` for `captionlens.load`."""
    options = (
        click.option("--threads", type=click.IntRange(min=0), default=0, help="0: one a core."),
        click.option(
            "--device",
            type=click.Choice(DEVICES),
            default="cpu",
            show_default=True,
            help="Others than cpu need their own onnxruntime.",
        ),
    )
    return in_one(command, "computing", options)


def search_options(command: Callback) -> Callback:
    """Add the options of a caption request, in one argument `search` for `Captioner.request`."""
    options = (
        click.option("--beam", type=click.IntRange(min=1), help="Beam width; 1 is greedy."),
        click.option("--sample", "temperature", type=float, metavar="TEMPERATURE", help="Sample the words."),
        click.option("--top-k", type=click.IntRange(min=0), default=0, help="With --sample: the K likeliest words."),
        click.option("--top-p", type=float, default=1.0, help="With --sample: the likeliest words of mass P."),
        click.option("--seed", type=click.IntRange(min=0), default=0, help="With --sample: of the random numbers."),
        click.option("--max-words", type=click.IntRange(min=1), help="Longer captions are cut."),
        click.option("--prefix", default="", metavar="TEXT", help="Words that every caption begins with."),
        click.option(
            "--region",
            metavar="X,Y,WIDTH,HEIGHT",
            callback=_region,
            help="Restrict attention to a box, in fractions of width and height: 0,0,0.5,1 is the left half.",
        ),
        click.option(
            "--alternatives",
            type=click.IntRange(min=0),
            default=0,
            metavar="N",
            help="Add the N most probable other words of every word to json and jsonl.",
        ),
        click.option(
            "--keywords",
            type=click.IntRange(min=0),
            default=0,
            metavar="N",
            help="Add up to N nouns of every caption, the most certain first, to json, jsonl, csv and the report, and "
            "to the keywords of --sidecar xmp and --embed. The model must know its nouns: captionlens model nouns.",
        ),
        click.option(
            "--faithfulness",
            is_flag=True,
            help="Measure the effect of blanking what each word attended to. Slow.",
        ),
        click.option(
            "--min-confidence",
            type=click.FloatRange(0, 1),
            metavar="X",
            help="From 0 to 1: do not show captions of lower confidence.",
        ),
        click.option(
            "--unsure",
            type=click.Choice(UNSURE),
            default="mark",
            show_default=True,
            help="What to do with captions of photographs that the model may not know.",
        ),
    )
    return in_one(command, "search", options)


_PATTERNS = (
    click.option("--include", multiple=True, metavar="PATTERN", help="Of folders, only paths like this: '2024/*.jpg'."),
    click.option("--exclude", multiple=True, metavar="PATTERN", help="Of folders, no paths like this."),
)


def pattern_options(command: Callback) -> Callback:
    """Add --include and --exclude, in one argument `patterns` for `gather`."""
    return in_one(command, "patterns", _PATTERNS)


def source_options(command: Callback) -> Callback:
    """Add PATH... and the options that choose photographs, in one argument `sources` for `gather`."""
    options = (
        click.argument("paths", nargs=-1, metavar="PATH..."),
        click.option("-r", "--recursive", is_flag=True, help="Photographs in sub-folders too."),
        *_PATTERNS,
        click.option("--filelist", type=FILE, help="A text file with one path per line."),
    )
    return in_one(command, "sources", options)


def output_options(command: Callback) -> Callback:
    """Add the options of what becomes of captions, in one argument `outputs` for `Captioning`."""
    options = (
        click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True),
        click.option("--attention", is_flag=True, help="Include the attention maps in json and jsonl."),
        click.option(
            "--spreadsheet",
            type=click.Choice(SPREADSHEETS),
            help="csv as Excel and others open it: what stands between the cells.",
        ),
        click.option(
            "--for",
            "purpose",
            type=click.Choice(PURPOSES),
            default="caption",
            show_default=True,
            help="alt-text: a sentence with a capital and a full stop, of at most 125 characters.",
        ),
        click.option("--template", metavar="TEXT", help="Text around every caption: 'Photograph: {caption}'."),
        click.option("--max-characters", type=click.IntRange(min=10), metavar="N", help="Cut longer captions."),
        click.option(
            "-o", "--output", type=FILE, metavar="FILE", help="Write the captions to FILE, or continue what is there."
        ),
        click.option("--sidecar", type=click.Choice(SIDECARS), help="Write captions beside the photographs."),
        click.option(
            "--sidecar-names",
            type=click.Choice(SIDECAR_NAMES),
            default="auto",
            show_default=True,
            help="photo.xmp (stem) or photo.jpg.xmp (name).",
        ),
        click.option("--embed", is_flag=True, help="Write captions into the photographs' metadata, with exiftool."),
        click.option("--explain", type=FOLDER, metavar="DIR", help="Save attention figures, one per photograph."),
        click.option(
            "--report",
            type=FILE,
            metavar="FILE.html",
            help="Write a page that shows the map of each word, to search and to correct captions in. Of more than "
            f"{EMBEDDED_AT_MOST} photographs the pictures lie beside it, in FILE_photographs.",
        ),
        click.option(
            "--on-existing",
            type=click.Choice(ON_EXISTING),
            default="skip",
            show_default=True,
            help="What to do where FILE, a sidecar, a photograph or a figure has a caption already.",
        ),
        click.option(
            "--checksum",
            is_flag=True,
            help="Tell by SHA-256, not by size and time, whether a photograph has changed.",
        ),
    )
    return in_one(command, "outputs", options)


def captioning_options(command: Callback) -> Callback:
    """Add the model, the search, the device and the outputs: the arguments of `Captioning`."""
    options = (
        click.option("--model", type=FOLDER, help="A model directory; by default the one in the package."),
        search_options,
        click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True),
        device_options,
        output_options,
        click.option("--quiet", is_flag=True, help="No progress bar; failures are still reported."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _region(context: click.Context, parameter: click.Parameter, value: str | None) -> "Region | None":
    from captionlens.geometry.region import Region

    return None if value is None else Region.parse_box(value)


def _columns(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(part.split("=", 1)) for part in value.split(",")] if value else []
    if not all(len(pair) == 2 and all(pair) for pair in pairs):
        raise click.BadParameter(f"want ROLE=NAME with commas between them, as image=Bild,caption=Text, got {value!r}")
    return tuple((role.strip(), name.strip()) for role, name in pairs)


def resolve_datasets(
    datasets: Sequence[str],
    *,
    quiet: bool,
    delimiter: str | None = None,
    columns: Sequence[tuple[str, str]] = (),
    encoding: str | None = None,
    **reading: Any,
) -> "tuple[list[Path], tuple[Dataset, ...]]":
    """Download the known data sets that are missing, and read all; return their paths, too.

    Args:
        datasets: paths and known names.
        quiet: without progress.
        delimiter, columns, encoding: of tables, see `TableForm`.
        reading: the other options of `data_options`, see `read_datasets`.
    """
    from captionlens.datasets import TableForm
    from captionlens.datasets.download import resolve_dataset
    from captionlens.datasets.several import read_datasets

    table = TableForm("\t" if delimiter == "\\t" else delimiter, dict(columns), encoding)
    paths = [resolve_dataset(dataset, progress=not quiet) for dataset in datasets]
    return paths, read_datasets(paths, table=table, **reading)


def show_datasets(datasets: Sequence[str], *, quiet: bool, **reading: Any) -> "tuple[Dataset, ...]":
    """Read data sets as `resolve_datasets` does, and report on stderr what was left out."""
    show_messages(quiet)
    paths, read = resolve_datasets(datasets, quiet=quiet, **reading)
    for given, path, dataset in zip(datasets, paths, read, strict=True):
        for problem in dataset.problems[:_SHOWN]:
            click.echo(f"left out: {problem.where}: {problem.cause}", err=True)
        if len(dataset.problems) > _SHOWN:
            more = len(dataset.problems) - _SHOWN
            click.echo(f"left out: {more} more (captionlens data check {given} lists them)", err=True)
        if not quiet:
            for note in dataset.notes:
                click.echo(f"{path}: {note}", err=True)
            sizes = ", ".join(f"{name} {count}" for name, count in dataset.split_sizes().items() if count)
            click.echo(f"{path}: {dataset.layout}, photographs: {sizes}", err=True)
    return read
