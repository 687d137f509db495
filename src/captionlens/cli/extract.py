"""`captionlens extract`: grid features of a data set, into a feature store."""

from functools import partial
from pathlib import Path

import click

from captionlens.cli.options import data_options, show_dataset


@click.command()
@data_options
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="STORE")
@click.option("--backbone", default="efficientnet_lite2", show_default=True, help="Or inception_v3, timm:NAME.")
@click.option("--backbone-weights", type=click.Path(path_type=Path), help="A file of published weights.")
@click.option("--image-size", type=int, help="Pixels a side. [default: the backbone's own]")
@click.option("--mirrored", is_flag=True, help="Also every photograph seen in a mirror, for the setting mirror.")
@click.option(
    "--blanked",
    type=click.Path(path_type=Path),
    metavar="BOXES",
    help="Also every photograph with one of the phrases of BOXES blanked out, for the setting blanking.",
)
@click.option("--devices", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "32", "bf16"]),
    default="auto",
    show_default=True,
    help="Of computing; auto is bfloat16 where the processor has it.",
)
@click.option("--quiet", is_flag=True, help="No progress and no messages.")
@click.pass_context
def extract(
    context: click.Context,
    dataset: str,
    layout: str | None,
    max_captions: int | None,
    seed: int,
    output: Path,
    backbone: str,
    backbone_weights: Path | None,
    image_size: int | None,
    mirrored: bool,
    blanked: Path | None,
    devices: str,
    precision: str,
    quiet: bool,
) -> None:
    """Run the frozen network over every photograph of DATASET once, into the feature store STORE.

    Can be killed at any moment; the same command goes on where it stopped.
    """
    from captionlens.features.backbones import load_backbone
    from captionlens.features.extract import accelerator
    from captionlens.features.extract import extract as extract_grids

    device = accelerator(devices)
    bfloat16 = None if precision == "auto" else precision == "bf16"
    network = load_backbone(backbone, backbone_weights, image_size)
    if blanked is not None:  # a wrong folder is refused before the work
        from captionlens.datasets.blanked_phrases import blanked_cells, blanked_reader
        from captionlens.datasets.phrase_targets import targets_reader

        cells = blanked_cells(blanked_reader(targets_reader(blanked, *network.grid)))
    read = show_dataset(dataset, layout=layout, max_captions=max_captions, seed=seed, quiet=quiet)
    run = partial(extract_grids, read.records, output, network, device=device, bfloat16=bfloat16, progress=not quiet)
    done = run()
    for error in done.unreadable:
        click.echo(f"captionlens: {error}", err=True)
    parts = [("photographs", done)]
    if mirrored:
        parts.append(("mirrored", run(mirrored=True)))
    if blanked is not None:
        parts.append(("blanked", run(blanked=cells)))
    if not quiet:
        for name, part in parts:
            click.echo(
                f"{output}: {part.extracted} {name} extracted, {part.already} were there, "
                f"{len(part.unreadable)} unreadable",
                err=True,
            )
    if done.unreadable:
        context.exit(1)
