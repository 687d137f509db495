"""`captionlens data scenes`: draw the built-in data set."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--images", type=click.IntRange(min=1), required=True, help="How many pictures to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which pictures to draw.")
@click.option("--size", type=int, default=224, show_default=True, help="Pixels a side.")
@click.option("--quiet", is_flag=True, help="No progress and no messages.")
def scenes(folder: Path, images: int, seed: int, size: int, quiet: bool) -> None:
    """Draw the built-in data set into DIR.

    Coloured shapes in relation to one another, with captions in three splits and the box of every phrase. The
    same seed draws the same data set; a larger one begins with the smaller one; an interrupted call goes on
    where it stopped.
    """
    from captionlens.datasets.scenes import draw_scenes

    draw_scenes(folder, images=images, seed=seed, size=size, progress=not quiet)
    if not quiet:
        click.echo(f"{folder}: {images} pictures", err=True)
