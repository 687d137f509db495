"""`captionlens extract`: extract the grid features of a data set into a feature store."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionlens.cli import Command
from captionlens.cli.options import data_options, show_datasets
from captionlens.datasets.records import SPLITS
from captionlens.datasets.splits import VALIDATION_PHOTOGRAPHS, for_training
from captionlens.threads import wait_asleep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from captionlens.datasets import Record


@click.command(cls=Command)
@data_options
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="STORE")
@click.option("--backbone", default="efficientnet_lite2", show_default=True, help="Or inception_v3, timm:NAME.")
@click.option("--backbone-weights", type=click.Path(path_type=Path), help="A file of published weights.")
@click.option("--image-size", type=int, help="Side of the input in pixels. [default: the backbone's own]")
@click.option(
    "--validation-photographs",
    type=click.IntRange(min=1),
    metavar="N",
    default=VALIDATION_PHOTOGRAPHS,
    show_default=True,
    help="The first N of each val, as in the training setting of that name.",
)
@click.option("--all", "everything", is_flag=True, help="All photographs of all splits.")
@click.option("--mirrored", is_flag=True, help="Also mirrored photographs of train, for the training setting mirror.")
@click.option(
    "--blanked",
    type=click.Path(path_type=Path),
    metavar="BOXES",
    help="Also photographs of train with a phrase of BOXES blanked out, for the training setting blanking.",
)
@click.option("--devices", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "32", "bf16"]),
    default="auto",
    show_default=True,
    help="Of the computation; auto is bfloat16 where the processor has it.",
)
@click.option("--quiet", is_flag=True, help="No progress and no messages.")
@click.pass_context
def extract(
    context: click.Context,
    data: dict[str, Any],
    output: Path,
    backbone: str,
    backbone_weights: Path | None,
    image_size: int | None,
    validation_photographs: int,
    everything: bool,
    mirrored: bool,
    blanked: Path | None,
    devices: str,
    precision: str,
    quiet: bool,
) -> None:
    """Run the frozen network over the photographs of DATASET... once, into the feature store STORE.

    By default these are the photographs that training uses: all of train and the first of val, of
    each data set. With --all they are all
    photographs, for mirroring and blanking too.

    It can be killed at any moment; the same command resumes it.
    """
    wait_asleep()
    from captionlens.features.backbones import load_backbone
    from captionlens.features.extract import accelerator
    from captionlens.features.extract import extract as extract_grids

    device = accelerator(devices)
    bfloat16 = None if precision == "auto" else precision == "bf16"
    network = load_backbone(backbone, backbone_weights, image_size)
    if blanked is not None:  # refuse a wrong folder before the work
        from captionlens.datasets.blanked_phrases import blanked_cells, blanked_reader
        from captionlens.datasets.phrase_targets import targets_reader

        cells = blanked_cells(blanked_reader(targets_reader(blanked, *network.grid)))
    read = show_datasets(**data, quiet=quiet)
    records = [record for dataset in read for record in dataset.records]
    taken = records
    if not everything:
        taken = [record for dataset in read for record in for_training(dataset.records, validation_photographs)]
    changed = records if everything else [record for record in taken if record.split == "train"]
    if not quiet:
        _tell_left_out(records, taken)
    run = partial(extract_grids, folder=output, backbone=network, device=device, bfloat16=bfloat16, progress=not quiet)
    done = run(taken)
    for error in done.unreadable:
        click.echo(f"captionlens: {error}", err=True)
    parts = [("photographs", done)]
    if mirrored:
        parts.append(("mirrored", run(changed, mirrored=True)))
    if blanked is not None:
        parts.append(("blanked", run(changed, blanked=cells)))
    if not quiet:
        for name, part in parts:
            click.echo(
                f"{output}: {part.extracted} {name} extracted, {part.already} were there, "
                f"{len(part.unreadable)} unreadable",
                err=True,
            )
    if done.unreadable:
        context.exit(1)


def _tell_left_out(records: "Sequence[Record]", taken: "Sequence[Record]") -> None:
    there, here = (
        {split: sum(record.split == split for record in some) for split in SPLITS} for some in (records, taken)
    )
    left_out = [f"{there[split] - here[split]} of {split}" for split in SPLITS if there[split] > here[split]]
    if left_out:
        click.echo(
            f"not extracted, as train does not ask for them: {' and '.join(left_out)} "
            "(--all takes all, --validation-photographs N more of val)",
            err=True,
        )
