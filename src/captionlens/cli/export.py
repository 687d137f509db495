"""`captionlens export`: export a training run as a model directory, or rewrite a model directory."""

from pathlib import Path

import click

from captionlens.cli import Command, show_messages
from captionlens.cli.options import comma_separated_numbers


@click.command(cls=Command)
@click.argument("source", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="MODEL")
@click.option("--name", help="Name of the model; by default that of RUN, or the model's own.")
@click.option("--licence", help="Licence of the model; by default the data set's known terms.")
@click.option("--beam", type=click.IntRange(min=1), help="Default beam width; by default that of RUN's validation.")
@click.option("--length-penalty", type=float, help="Default length penalty; by default that of RUN's validation.")
@click.option(
    "--weights",
    type=click.Choice(["half", "int8"]),
    default="half",
    show_default=True,
    help="Precision of the weights: half precision, or eight bits.",
)
@click.option(
    "--average",
    "averaged_with",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN2",
    help="Average the weights with those of RUN2, which RUN started from, or which started from the same run; may be "
    "repeated.",
)
@click.option(
    "--shares",
    callback=comma_separated_numbers,
    metavar="S,S...",
    help="With --average: shares of RUN and each RUN2. [default: equal]",
)
@click.option(
    "--temperature",
    type=float,
    help="Divide the logits by it: above 1, the search of a captioner that is too sure of itself weighs more. "
    "[default: 1]",
)
@click.option(
    "--report",
    "reports",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A report of evaluate, for the model card; may be repeated.",
)
@click.option("--notes", type=click.Path(path_type=Path), help="Markdown for the end of the model card.")
@click.option("--quiet", is_flag=True, help="No messages.")
def export(
    source: Path,
    output: Path,
    name: str | None,
    licence: str | None,
    beam: int | None,
    length_penalty: float | None,
    weights: str,
    averaged_with: tuple[Path, ...],
    shares: tuple[float, ...],
    temperature: float | None,
    reports: tuple[Path, ...],
    notes: Path | None,
    quiet: bool,
) -> None:
    """Write the kept epoch of RUN as the model directory MODEL, and check it against the PyTorch network.

    RUN may be a model directory too: it is rewritten with the graphs of this version, or with quantised weights.
    """
    from captionlens.datasets.reading import read_text
    from captionlens.export.rewriting import export_again
    from captionlens.scoring.evaluation import read_reports
    from captionlens.training.run_export import export_run
    from captionlens.training.run_folder import open_run

    show_messages(quiet)
    if shares and not averaged_with:
        raise click.UsageError("--shares is of runs that are averaged: name them with --average")
    if (source / "manifest.json").exists():
        if licence or reports or notes or averaged_with or temperature is not None:
            raise click.UsageError(
                "--licence, --average, --temperature, --report and --notes are for runs; a model has its card and its "
                "weights already"
            )
        export_again(source, output, name=name, beam=beam, length_penalty=length_penalty, weights=weights)
        return
    scores = [one for report in reports for one in read_reports(report)]
    text = read_text(notes) if notes is not None else ""
    export_run(
        open_run(source),
        output,
        name=name,
        licence=licence,
        beam=beam,
        length_penalty=length_penalty,
        weights=weights,
        averaged_with=[open_run(path) for path in averaged_with],
        shares=shares,
        temperature=1.0 if temperature is None else temperature,
        reports=scores,
        notes=text,
    )
