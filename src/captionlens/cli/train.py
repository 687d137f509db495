"""`captionlens train`: train a captioner on a data set of photographs and captions."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionlens.cli import Command, show_messages
from captionlens.cli.options import comma_separated_numbers, data_options, show_datasets
from captionlens.errors import CaptionlensError

if TYPE_CHECKING:
    from captionlens.datasets import Dataset
    from captionlens.training.run_folder import RunFolder


@click.command(cls=Command)
@partial(data_options, seed="Of everything drawn: the subset, made-up splits, weights, the order of batches.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="RUN")
@click.option(
    "--weights",
    metavar="W,W...",
    callback=comma_separated_numbers,
    help="With several data sets: how often a photograph of each is drawn in an epoch. [default: once]",
)
@click.option("--name", help="Name of the model; by default that of RUN, as in runs/NAME.")
@click.option("--preset", help="tutorial, show-attend-tell, base or self-critical [default: base].")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="Settings in a YAML file.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated.")
@click.option("--resume", is_flag=True, help="Resume RUN as it was started, with the changes of --set.")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="RUN", help="Start from its kept weights.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Learn from this run's captioner, too, see the setting distillation; may be repeated.",
)
@click.option("--features", type=click.Path(path_type=Path), metavar="STORE", help="By default RUN/features.")
@click.option("--backbone", help="[default: efficientnet_lite2] Or inception_v3, timm:NAME.")
@click.option("--backbone-weights", type=click.Path(path_type=Path), help="A file of published weights.")
@click.option("--boxes", type=click.Path(path_type=Path), metavar="DIR", help="Flickr30k Entities, or drawn scenes.")
@click.option("--devices", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", default="auto", show_default=True, help="auto, 32 or bf16.")
@click.option("--no-export", is_flag=True, help="Write no RUN/model, until the same command is given without it.")
@click.option("--quiet", is_flag=True, help="No progress and no messages.")
def train(
    data: dict[str, Any],
    output: Path,
    weights: tuple[float, ...],
    name: str | None,
    preset: str | None,
    config: Path | None,
    settings: tuple[str, ...],
    resume: bool,
    source: Path | None,
    teachers: tuple[Path, ...],
    features: Path | None,
    backbone: str | None,
    backbone_weights: Path | None,
    boxes: Path | None,
    devices: str,
    precision: str,
    no_export: bool,
    quiet: bool,
) -> None:
    """Train a captioner on the data sets DATASET... in the run folder RUN.

    It extracts missing features, builds the vocabulary, trains, validates each epoch, keeps the best one and exports it
    to RUN/model. Several data sets have one vocabulary, and each is validated by itself; the best epoch is that of the
    highest mean. It can be killed at any moment; the same command resumes it.
    """
    from captionlens.training.config import make_config, parse_settings, read_yaml
    from captionlens.training.distributed import started_processes
    from captionlens.training.run_folder import DataSettings, open_run, resume_run, start_run
    from captionlens.training.starting import begin_from

    def prepare() -> "tuple[RunFolder, tuple[Dataset, ...]]":
        changes = read_yaml(config) if config is not None else {}
        if backbone is not None:
            changes["backbone"] = backbone
        changes.update(parse_settings(settings))
        seed = data["seed"]
        chosen = DataSettings(
            datasets=data["datasets"],
            layouts=data["layouts"],
            delimiter=data["delimiter"],
            columns=data["columns"],
            encoding=data["encoding"],
            weights=weights,
            max_captions=data["max_captions"],
            split_seed=seed,
            features=str(features) if features else None,
            backbone_weights=str(backbone_weights) if backbone_weights else None,
            boxes=str(boxes) if boxes else None,
            teachers=tuple(map(str, teachers)),
        )
        new = not (output / "config.yaml").exists()
        # Refuse invalid settings before a data set is downloaded.
        if resume:
            run = resume_run(output, {"preset": preset, **changes} if preset else changes, name)
            chosen = replace(run.data, datasets=data["datasets"])
        else:
            named = str(changes.pop("preset", None) or preset or "base")
            changes = {"seed": seed, **changes}
            if source is None:
                run = start_run(output, chosen, make_config(named, changes), name)
            else:
                run = start_run(output, *begin_from(open_run(source), chosen, named, changes), name)
        try:
            read = show_datasets(
                chosen.datasets,
                layouts=chosen.layouts,
                delimiter=chosen.delimiter,
                columns=chosen.columns,
                encoding=chosen.encoding,
                max_captions=chosen.max_captions,
                seed=chosen.split_seed,
                quiet=quiet,
            )
        except CaptionlensError:
            if new:  # the next call names another data set, or how to read it
                run.forget()
            raise
        return run, read

    with started_processes() as processes:
        show_messages(quiet or not processes.first)
        run, read = processes.from_first(prepare)
        from captionlens.training.fit import train as run_training  # takes seconds, so errors are reported first

        summary = run_training(
            run,
            read,
            devices=devices,
            precision=precision,
            export=not no_export,
            progress=not quiet,
            processes=processes,
        )
        if processes.first and not quiet:
            best = summary["best"]
            click.echo(
                f"kept epoch {best['epoch']:.0f}: CIDEr-D {100 * best['val_cider']:.1f} on validation; "
                f"{summary['captions_per_second']} captions/s; "
                + (f"model in {run.model}" if run.model.exists() else "no model yet"),
                err=True,
            )
