"""`captionlens data scenes`: draw the built-in data set."""

from pathlib import Path

import click

from captionlens.cli import Command


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--images", type=click.IntRange(min=1), required=True, help="Number of pictures to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random choices.")
@click.option("--size", type=int, default=224, show_default=True, help="Side of a picture in pixels.")
@click.option("--quiet", is_flag=True, help="No progress and no messages.")
def scenes(folder: Path, images: int, seed: int, size: int, quiet: bool) -> None:
    """Draw the built-in data set into DIR.

    It has pictures of coloured shapes with captions in three splits and a box for every phrase. The same seed draws the
    same data set, and a larger one begins with the smaller one. An interrupted call is resumed by the same command.
    """
    from captionlens.datasets.scenes import draw_scenes

    draw_scenes(folder, images=images, seed=seed, size=size, progress=not quiet)
    if not quiet:
        click.echo(f"{folder}: {images} pictures", err=True)
