"""`captionlens model`: what a model directory is, and whether it is whole."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from captionlens.runtime.model_directory import ModelDirectory

_FOLDER = click.Path(path_type=Path)


@click.group()
def model() -> None:
    """Show or check a model directory."""


@model.command()
@click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)
@click.option("--json", "as_json", is_flag=True, help="The whole of config.json.")
@click.option("--quiet", is_flag=True, help="Nothing to be quiet about; for symmetry.")
def show(folder: Path | None, as_json: bool, quiet: bool) -> None:
    """What the model in DIR is and was trained on; by default the one that comes along."""
    from captionlens.runtime.captioner import PACKAGED_MODEL
    from captionlens.runtime.model_directory import ModelDirectory

    opened = ModelDirectory.open(folder or PACKAGED_MODEL)
    if as_json:
        click.echo(json.dumps(opened.config, indent=2, ensure_ascii=False))
        return
    for name, value in _describe(opened).items():
        click.echo(f"{name + ':':12} {value}")


@model.command()
@click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)
@click.option("--quiet", is_flag=True, help="Say nothing if all is well.")
def check(folder: Path | None, quiet: bool) -> None:
    """Whether the model in DIR is whole.

    Every file must be as the manifest names it, all parts must be of one model, and it must load.
    """
    from captionlens.runtime.captioner import PACKAGED_MODEL, load

    captioner = load(folder or PACKAGED_MODEL)
    if not quiet:
        click.echo(f"{folder or PACKAGED_MODEL}: {captioner.name} is whole")


def _describe(model: "ModelDirectory") -> dict[str, str]:
    from captionlens.errors import ModelError

    config = model.config
    megabytes = sum(file.stat().st_size for file in model.folder.rglob("*") if file.is_file()) / 1e6
    try:
        best = config["best_epoch"]
        return {
            "name": model.name,
            "folder": str(model.folder),
            "size": f"{megabytes:.1f} MB",
            "backbone": f"{config['backbone']}, grid {model.grid[0]} x {model.grid[1]}",
            "network": f"preset {config['training']['preset']}, {config['network']['units']} units",
            "words": str(len(model.vocabulary)),
            "trained on": config["trained_on"] or "not recorded",
            "validation": f"CIDEr-D {100 * best['val_cider']:.1f} (epoch {best['epoch']:.0f})",
            "decoding": f"beam {model.decoding.beam}, length penalty {model.decoding.length_penalty:g}",
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(model.folder / "config.json", f"lacks or garbles a setting ({error})") from error
