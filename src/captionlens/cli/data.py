"""`captionlens data`: check, download and draw data sets."""

import json
from pathlib import Path
from typing import Any

import click

from captionlens.cli import Group
from captionlens.cli.options import data_options, resolve_datasets
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
    """Read DATASET... as training does, and report the problems.

    A DATASET is a folder, a captions file, or a known name (coco2014, coco2017, flickr8k, flickr30k), which is
    downloaded if it is missing. Every photograph is decoded. Each problem is reported on stderr; the exit code is then
    1. Several data sets have one vocabulary; photographs that occur in two of them are reported, too.
    """
    from captionlens.datasets.check import check_datasets

    _, read = resolve_datasets(**data, quiet=quiet)
    reports, shared = check_datasets(read, progress=not quiet)
    for problem in [*(problem for report in reports for problem in report.problems), *shared]:
        click.echo(f"{problem.where}: {problem.cause}", err=True)
    ok = not shared and all(report.ok for report in reports)
    if as_json:
        plain: dict[str, Any] = reports[0].to_dict()
        if len(reports) > 1:
            plain = {
                "ok": ok,
                "datasets": [report.to_dict() for report in reports],
                "shared": [problem.to_dict() for problem in shared],
            }
        click.echo(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        for report in reports:
            click.echo(report.to_text())
        if shared:
            click.echo(f"photographs in two data sets: {len(shared):,}")
    if not ok:
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
