"""`captionlens model`: show, check or calibrate a model directory, or tell it the nouns of its vocabulary."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionlens.cli import Group
from captionlens.cli.options import data_options, device_options, show_datasets

if TYPE_CHECKING:
    from captionlens.runtime.model_directory import ModelDirectory

_FOLDER = click.Path(path_type=Path)
_WEIGHTS = {"half": "half precision", "int8": "eight bits"}


@click.group(cls=Group)
def model() -> None:
    """Show, check or calibrate a model directory, or tell it its nouns."""


@model.command()
@click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print config.json.")
@click.option("--quiet", is_flag=True, help="The name alone.")
def show(folder: Path | None, as_json: bool, quiet: bool) -> None:
    """Describe the model in DIR and its training; by default the one in the package."""
    from captionlens.runtime.model_directory import PACKAGED_MODEL, ModelDirectory

    opened = ModelDirectory.open(folder or PACKAGED_MODEL)
    if as_json:
        click.echo(json.dumps(opened.config, indent=2, ensure_ascii=False))
        return
    if quiet:
        click.echo(opened.name)
        return
    for name, value in _describe(opened).items():
        click.echo(f"{name + ':':12} {value}")


@model.command()
@click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)
@click.option("--quiet", is_flag=True, help="No output unless there is an error.")
def check(folder: Path | None, quiet: bool) -> None:
    """Check that the model in DIR is complete.

    Every file must match the manifest, all parts must belong to one model, and the model must load.
    """
    from captionlens.runtime.captioner import load
    from captionlens.runtime.model_directory import PACKAGED_MODEL

    captioner = load(folder or PACKAGED_MODEL)
    if not quiet:
        click.echo(f"{folder or PACKAGED_MODEL}: {captioner.name} is whole")


@model.command()
@click.argument("folder", metavar="MODEL", type=_FOLDER)
@data_options
@click.option("--split", default="val", show_default=True, help="A held-out split.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@device_options
@click.option("--quiet", is_flag=True, help="No progress and no messages.")
@click.pass_context
def calibrate(
    context: click.Context,
    folder: Path,
    data: dict[str, Any],
    split: str,
    batch_size: int,
    computing: dict[str, Any],
    quiet: bool,
) -> None:
    """Calibrate the confidence of MODEL on DATASET..., which it was trained on, and store it in MODEL.

    The train splits give the distribution of known photographs, the held-out splits the share of right words. The table
    shows the expected calibration error, times 100, before and after; after is cross-validated.
    """
    from captionlens.export.card import with_confidence
    from captionlens.runtime.captioner import load
    from captionlens.runtime.model_directory import add_calibration
    from captionlens.scoring.confidence_fit import fit_calibration

    captioner = load(folder, **computing)
    read = show_datasets(**data, quiet=quiet)
    done = fit_calibration(captioner, read, split=split, batch_size=batch_size, progress=not quiet)
    for _, message in done.failed:
        click.echo(f"captionlens: {message}", err=True)
    record = done.calibration.record
    card = with_confidence((folder / "README.md").read_text("utf-8"), record)
    add_calibration(folder, done.calibration, card)
    click.echo(f"{'calibration error':<18}{'before':>8}{'after':>8}")
    for name, ece in record["ece"].items():
        click.echo(f"{name:<18}{100 * ece['before']:>8.1f}{100 * ece['after']:>8.1f}")
    if done.failed:
        context.exit(1)


@model.command()
@click.argument("folder", metavar="MODEL", type=_FOLDER)
@click.argument("source", metavar="[SOURCE]", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--exact", is_flag=True, help="Of a list: only its words are nouns, not their English plurals.")
@click.option("--quiet", is_flag=True, help="No messages.")
def nouns(folder: Path, source: Path | None, exact: bool, quiet: bool) -> None:
    """Store in MODEL which of its words are nouns, for the keywords of captions.

    SOURCE is a text file with a noun a line, in the language of MODEL, or the folder of Flickr30k Entities. In a line,
    the keyword for a noun may follow after a tab, as "dog" for "dogs"; without one it is the noun itself, or its
    English singular if that is a noun of MODEL, too. Nouns that MODEL had before are replaced.

    Without SOURCE, print the nouns that MODEL has as such a list, to be changed and stored again with --exact.
    """
    from captionlens.errors import ModelError
    from captionlens.export.vocabulary_nouns import nouns_of_list, nouns_of_phrases
    from captionlens.runtime.model_directory import ModelDirectory, add_nouns

    opened = ModelDirectory.open(folder)
    if source is None:
        if opened.nouns is None:
            raise ModelError(folder, "has no nouns; name a list of them, or the folder of Flickr30k Entities")
        for noun, keyword in opened.nouns.keywords.items():
            click.echo(noun if noun == keyword else f"{noun}\t{keyword}")
        return
    if source.is_dir():
        found = nouns_of_phrases(source, opened.vocabulary)
    else:
        found = nouns_of_list(source, opened.vocabulary, exact=exact)
    add_nouns(folder, found)
    if not quiet:
        click.echo(f"{folder}: {len(found.keywords):,} of {len(opened.vocabulary):,} words are nouns")


def _describe(model: "ModelDirectory") -> dict[str, str]:
    from captionlens.errors import ModelError

    config = model.config
    megabytes = sum(file.stat().st_size for file in model.folder.rglob("*") if file.is_file()) / 1e6
    try:
        best = config["best_epoch"]
        return {
            "name": model.name,
            "folder": str(model.folder),
            "size": f"{megabytes:.1f} MB, weights in {_WEIGHTS[config.get('weights', 'half')]}",
            "backbone": f"{config['backbone']}, grid {model.grid[0]} x {model.grid[1]}",
            "network": f"preset {config['training']['preset']}, {config['network']['units']} units",
            "words": str(len(model.vocabulary)),
            "trained on": config["trained_on"] or "not recorded",
            "validation": f"CIDEr-D {100 * best['val_cider']:.1f} (epoch {best['epoch']:.0f})",
            "decoding": f"beam {model.decoding.beam}, length penalty {model.decoding.length_penalty:g}",
            "confidence": _confidence(model),
            "nouns": _nouns(model),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(model.folder / "config.json", f"lacks or garbles a setting ({error})") from error


def _nouns(model: "ModelDirectory") -> str:
    return "none" if model.nouns is None else f"{len(model.nouns.keywords):,}, from {model.nouns.source}"


def _confidence(model: "ModelDirectory") -> str:
    if model.calibration is None:
        return "not calibrated"
    record = model.calibration.record
    ece = {name: f"{100 * both['before']:.1f} -> {100 * both['after']:.1f}" for name, both in record["ece"].items()}
    return (
        f"calibrated on {record['photographs']:,} photographs of {record['dataset']}, split {record['split']}; "
        f"error of words {ece['words']}, of captions {ece['captions']}"
    )
