"""`captionlens model`: what a model directory is, and whether it is whole."""

import json
from pathlib import Path

import click

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
    config = opened.config
    megabytes = sum(file.stat().st_size for file in opened.folder.rglob("*") if file.is_file()) / 1e6
    lines = {
        "name": opened.name,
        "folder": opened.folder,
        "size": f"{megabytes:.1f} MB",
        "backbone": f"{config['backbone']}, grid {opened.grid[0]} x {opened.grid[1]}",
        "network": f"preset {config['training']['preset']}, {config['network']['units']} units",
        "words": len(opened.vocabulary),
        "trained on": config["trained_on"] or "not recorded",
        "validation": f"CIDEr-D {100 * config['best_epoch']['val_cider']:.1f} (epoch {config['best_epoch']['epoch']})",
        "decoding": f"beam {opened.decoding.beam}, length penalty {opened.decoding.length_penalty:g}",
    }
    for name, value in lines.items():
        click.echo(f"{name + ':':12} {value}")


@model.command()
@click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)
@click.option("--quiet", is_flag=True, help="Say nothing if all is well.")
def check(folder: Path | None, quiet: bool) -> None:
    """Whether the model in DIR is whole: every file as the manifest names it, all parts of one model, loadable."""
    from captionlens.runtime.captioner import PACKAGED_MODEL, load

    captioner = load(folder or PACKAGED_MODEL)
    if not quiet:
        click.echo(f"{folder or PACKAGED_MODEL}: {captioner.name} is whole")
