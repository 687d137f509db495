"""`captionlens score`: score captions of any captioner, in COCO's formats."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from captionlens.cli import Command

if TYPE_CHECKING:
    from captionlens.scoring.scores import Scores

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("results", metavar="RESULTS.json", type=_FILE)
@click.argument("references", metavar="REFERENCES.json", type=_FILE)
@click.option(
    "-o",
    "--output",
    metavar="REPORT.json",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write JSON.",
)
@click.option("--intervals/--no-intervals", default=True, show_default=True, help="95 % bootstrap intervals.")
@click.option("--resamples", type=click.IntRange(min=1), default=1000, show_default=True, help="For intervals.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For intervals.")
@click.option("--meteor/--no-meteor", default=True, show_default=True, help="METEOR, if Java is installed.")
@click.option("--quiet", is_flag=True, help="No messages.")
def score(
    results: Path,
    references: Path,
    output: Path | None,
    intervals: bool,
    resamples: int,
    seed: int,
    meteor: bool,
    quiet: bool,
) -> None:
    """Score the captions of RESULTS.json against REFERENCES.json.

    RESULTS.json is in COCO's results format, a list of {"image_id", "caption"}. REFERENCES.json is in COCO's annotation
    format, {"annotations": [{"image_id", "caption"}, ...]}. As in COCO's own evaluation, the photographs of the results
    are scored. The table shows scores times 100; the JSON file has the official scorers' fractions.
    """
    from captionlens import files
    from captionlens.scoring.coco_files import read_pair
    from captionlens.scoring.scores import score_captions

    captions, wanted, without = read_pair(results, references)
    scores = score_captions(captions, wanted, intervals=intervals, resamples=resamples, seed=seed, meteor=meteor)
    if output is not None:
        report = {
            "results": str(results),
            "references": str(references),
            "photographs": scores.photographs,
            "scores": scores.scores,
            "intervals": {name: list(bounds) for name, bounds in scores.intervals.items()},
            "left_out": scores.left_out,
        }
        files.write_text(output, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if not quiet:
        if without:
            click.echo(f"{references}: {without} photographs have no caption in {results}: left out", err=True)
        for name, reason in scores.left_out.items():
            click.echo(f"{name} left out: {reason}", err=True)
    click.echo(score_table(scores))


def score_table(scores: "Scores") -> str:
    """Table of scores times 100, with intervals if there are any."""
    lines = [f"{scores.photographs} photographs, scores times 100"]
    for name, value in scores.scores.items():
        line = f"{name:<9}{100 * value:8.2f}"
        if name in scores.intervals:
            low, high = scores.intervals[name]
            line += f"   [{100 * low:.2f}, {100 * high:.2f}]"
        lines.append(line)
    return "\n".join(lines)
