"""`captionlens data`: check, download and draw data sets."""

import json
from pathlib import Path
from typing import Any

import click

from captionlens.cli import Group
from captionlens.cli.options import data_options
from captionlens.cli.scenes import scenes


@click.group(cls=Group)
def data() -> None:
    """Check, download and draw data sets."""


@data.command()
@data_options
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar; problems are still reported.")
@click.pass_context
def check(
    context: click.Context,
    data: dict[str, Any],
    as_json: bool,
    quiet: bool,
) -> None:
    """Read DATASET as training does, and report its problems.

    DATASET is a folder, a captions file, or a known name (coco2014, coco2017, flickr8k, flickr30k), which is downloaded
    if it is missing. Every photograph is decoded. Each problem is reported on stderr; the exit code is then 1.
    """
    from captionlens.datasets import read_dataset
    from captionlens.datasets.check import check_dataset
    from captionlens.datasets.download import resolve_dataset

    path = resolve_dataset(data.pop("dataset"), progress=not quiet)
    read = read_dataset(path, **data)
    report = check_dataset(read, progress=not quiet)
    for problem in report.problems:
        click.echo(f"{problem.where}: {problem.cause}", err=True)
    click.echo(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) if as_json else report.to_text())
    if not report.ok:
        context.exit(1)


@data.command()
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep-archives", is_flag=True, help="Keep the zip files in DIR after unpacking.")
@click.option("--quiet", is_flag=True, help="No progress and no messages.")
def download(name: str, folder: Path, keep_archives: bool, quiet: bool) -> None:
    """Download the data set NAME into DIR: coco2014, coco2017, flickr8k or flickr30k.

    Archives are checked and unpacked. An interrupted download is resumed by the same command. The environment variable
    CAPTIONLENS_MIRROR names a server to download everything from.
    """
    from captionlens.datasets.download import download_dataset

    download_dataset(name, folder, keep_archives=keep_archives, progress=not quiet)
    if not quiet:
        click.echo(f"{name} is in {folder}", err=True)


data.add_command(scenes)
