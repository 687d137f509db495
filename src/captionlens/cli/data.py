"""`captionlens data`: check, download, unpack and draw data sets."""

import json
from pathlib import Path
from typing import Any

import click

from captionlens.cli import Group
from captionlens.cli.options import columns_option, data_options, resolve_datasets
from captionlens.cli.scenes import scenes


@click.group(cls=Group)
def data() -> None:
    """Check, download, unpack and draw data sets."""


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


@data.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@columns_option
@click.option("--encoding", help="Of texts in tars, where it is not UTF-8: cp1252 ...")
@click.option("--quiet", is_flag=True, help="No progress; what was left out is still reported.")
@click.pass_context
def unpack(
    context: click.Context,
    source: Path,
    folder: Path,
    columns: tuple[tuple[str, str], ...],
    encoding: str | None,
    quiet: bool,
) -> None:
    """Unpack SOURCE, Parquet files or tars that hold photographs, into DIR.

    SOURCE is a folder or a file: .parquet, as Hugging Face writes it, or .tar in webdataset's form. DIR gets the
    photographs and the table captions.jsonl, and is a DATASET for all other commands. SOURCE stays as it is. An
    interrupted call is resumed by the same command. What is left out is reported on stderr; the exit code is then 1.
    """
    from captionlens.datasets import TableForm
    from captionlens.datasets.packed_writing import unpack_dataset

    done = unpack_dataset(source, folder, form=TableForm(None, dict(columns), encoding), progress=not quiet)
    for problem in done.problems:
        click.echo(f"left out: {problem.where}: {problem.cause}", err=True)
    if done.failed:
        for error in done.failed:
            click.echo(f"not unpacked: {error}", err=True)
        click.echo(f"{folder} is unfinished: mend these files or move them away, then run this again", err=True)
    elif not quiet:
        if done.repeated:
            click.echo(f"entries with the photograph of another one, now together: {done.repeated:,}", err=True)
        click.echo(f"{folder}: {done.photographs:,} photographs, {done.captions:,} captions", err=True)
        click.echo(f"See with captionlens data check {folder} whether they are fine.", err=True)
    if done.problems or done.failed:
        context.exit(1)


data.add_command(scenes)
