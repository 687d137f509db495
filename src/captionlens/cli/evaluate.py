"""`captionlens evaluate`: score a captioner on a split of a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionlens.cli import Command
from captionlens.cli.options import data_options, device_options, show_datasets
from captionlens.cli.score import score_table

if TYPE_CHECKING:
    from captionlens.scoring.evaluation import Evaluation

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=Command)
@data_options
@click.option("--model", type=click.Path(path_type=Path), help="A model directory; by default the one in the package.")
@click.option("--split", default="val", show_default=True, help="train, val (or dev), test.")
@click.option("-o", "--output", type=_FILE, metavar="REPORT.json", help="Write the report with all captions.")
@click.option("--results", type=_FILE, help="Write the captions in COCO's results format.")
@click.option("--references", type=_FILE, help="Write the references in COCO's format, for other scorers.")
@click.option("--beam", type=click.IntRange(min=1), help="Beam width; by default the model's own.")
@click.option("--length-penalty", type=float, help="By default the model's own.")
@click.option("--max-words", type=click.IntRange(min=1), help="By default the model's own.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@device_options
@click.option("--intervals/--no-intervals", default=True, help="95 % bootstrap intervals.")
@click.option("--meteor/--no-meteor", default=True, help="METEOR, if Java is installed.")
@click.option(
    "--grounding",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Compare attention with the boxes of Flickr30k Entities, or of drawn scenes.",
)
@click.option("--faithfulness", is_flag=True, help="Measure the effect of blanking what words attended to. Slow.")
@click.option(
    "--faithfulness-photographs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure faithfulness for the first N photographs only; by default for all.",
)
@click.option("--quiet", is_flag=True, help="No progress and no messages.")
@click.pass_context
def evaluate(
    context: click.Context,
    data: dict[str, Any],
    model: Path | None,
    split: str,
    output: Path | None,
    results: Path | None,
    references: Path | None,
    beam: int | None,
    length_penalty: float | None,
    max_words: int | None,
    batch_size: int,
    computing: dict[str, Any],
    intervals: bool,
    meteor: bool,
    grounding: Path | None,
    faithfulness: bool,
    faithfulness_photographs: int | None,
    quiet: bool,
) -> None:
    """Caption every photograph of a split of DATASET... and score the captions.

    The table on stdout shows scores times 100 with 95 % intervals; REPORT.json has the official scorers'
    fractions. Each of several data sets is scored by itself; below, their means. --results and --references then
    write a file for each, with its name in the file's.
    """
    from captionlens.runtime.captioner import load

    if faithfulness_photographs is not None and not faithfulness:
        raise click.UsageError("--faithfulness-photographs goes with --faithfulness")
    captioner = load(model, **computing)
    read = show_datasets(**data, quiet=quiet)
    from captionlens.datasets.phrases import all_phrases, phrase_reader
    from captionlens.datasets.records import split_name
    from captionlens.datasets.several import split_of
    from captionlens.scoring.coco_files import write_references, write_results
    from captionlens.scoring.evaluation import evaluate as run
    from captionlens.scoring.evaluation import evaluate_together, image_id, save_report
    from captionlens.scoring.faithfulness_scores import nouns_of

    request = captioner.request(beam=beam, length_penalty=length_penalty, max_words=max_words)
    of_sets = split_of(read, split)
    several = len(read) > 1
    phrases = None if grounding is None else phrase_reader(grounding)
    nouns = nouns_of(all_phrases(grounding)) if grounding is not None and several else None
    for path in (output, results, references):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    evaluations: list[Evaluation] = []
    failures = 0
    for dataset, records in zip(read, of_sets, strict=True):
        if not records:
            click.echo(f"captionlens: {dataset.root} has no split {split!r}: left out", err=True)
            continue
        if several:
            click.echo(("\n" if evaluations else "") + dataset.name)
        done = run(
            captioner,
            records,
            dataset=dataset.name,
            split=split_name(split),
            options=request.decoding,
            batch_size=batch_size,
            intervals=intervals,
            meteor=meteor,
            phrases=phrases,
            nouns=nouns,
            faithfulness=faithfulness,
            faithfulness_photographs=faithfulness_photographs,
            progress=not quiet,
        )
        evaluations.append(done)
        for _, message in done.failed:
            click.echo(f"captionlens: {message}", err=True)
        if results is not None:
            captions = {entry["image_id"]: entry["caption"] for entry in done.report["captions"]}
            write_results(_of_set(results, dataset.name, several), captions)
        if references is not None:
            wanted = {image_id(record): record.captions for record in records}
            write_references(_of_set(references, dataset.name, several), wanted)
        failures += len(done.failed) + _show(done)
    report = evaluate_together(evaluations) if several else evaluations[0].report
    if output is not None:
        save_report(output, report)
    if several:
        click.echo(f"\nmean of {len(evaluations)} data sets, scores times 100")
        click.echo("\n".join(f"{name:<9}{100 * value:8.2f}" for name, value in report["mean"].items()))
        if "confidence" in report:
            click.echo(f"all together, {_confidence_line(report['confidence'])}")
    if failures:
        context.exit(1)


def _of_set(path: Path, name: str, several: bool) -> Path:
    """Path of a data set's own file: ids of photographs may be the same in two sets."""
    return path.with_name(f"{path.stem}-{name}{path.suffix}") if several else path


def _show(done: "Evaluation") -> int:
    """Print an evaluation; return the number of photographs that one of its parts left out."""
    click.echo(score_table(done.scores))
    left_out = []
    if "confidence" in done.report:
        click.echo(_confidence_line(done.report["confidence"]))
    if "grounding" in done.report:
        click.echo(_grounding_table(done.report["grounding"]))
        left_out += [("grounding", entry) for entry in done.report["grounding"]["left_out"]]
    if "faithfulness" in done.report:
        click.echo(_faithfulness_table(done.report["faithfulness"]))
        left_out += [("faithfulness", entry) for entry in done.report["faithfulness"]["left_out"]]
    for part, entry in left_out:
        click.echo(f"captionlens: {part}: {entry['message']}", err=True)
    return len(left_out)


def _confidence_line(confidence: dict[str, Any]) -> str:
    """Line with calibration errors before and after, and CIDEr-D of the least and most confident tenths, times 100."""
    words, captions, rank = confidence["words"], confidence["captions"], confidence["spearman"]
    return (
        f"confidence: error of words {100 * words['before']:.1f} -> {100 * words['after']:.1f}, "
        f"of captions {100 * captions['before']:.1f} -> {100 * captions['after']:.1f}; "
        f"CIDEr-D of the least confident tenth {100 * confidence['least_confident_tenth']:.1f}, "
        f"of the most confident {100 * confidence['most_confident_tenth']:.1f}"
        + ("" if rank is None else f", rank correlation {rank:.2f}")
    )


def _grounding_table(grounding: dict[str, Any]) -> str:
    """Table of attention against boxes, times 100, with intervals if there are any, and the baselines."""
    lines = []
    for name, part in (("reference captions", grounding), ("own captions", grounding["own_captions"])):
        lines += ["", f"attention in {name}, {part['phrases']} phrases with boxes"]
        for title, key, baseline in (
            ("correctness", "attention_correctness", "uniform"),
            ("pointing", "pointing_game", "centre"),
        ):
            if key in part:
                line = f"{title:<12}{100 * part[key]:6.2f}"
                if "intervals" in part:
                    low, high = part["intervals"][key]
                    line += f"   [{100 * low:.2f}, {100 * high:.2f}]"
                lines.append(f"{line}   {baseline} {100 * part[baseline]:.2f}")
    return "\n".join(lines)


def _faithfulness_table(faithfulness: dict[str, Any]) -> str:
    """Table of the falls of word probabilities without the attended cells and without the control, times 100."""
    lines = ["", f"{'faithfulness':<18}{'words':>9}{'falls more':>13}{'fall':>9}{'control':>10}{'depends':>10}"]
    columns = (("falls_more", 13), ("fall", 9), ("control_fall", 10), ("depends_on_picture", 10))
    for name, part in (
        (faithfulness["words_are"], faithfulness),
        ("function words", faithfulness["function_words"]),
    ):
        values = "".join(f"{100 * part[key]:>{width}.1f}" if key in part else " " * width for key, width in columns)
        lines.append(f"{name:<18}{part['words']:>9}{values}".rstrip())
    return "\n".join(lines)
