"""A run over a collection of photographs: which are left to caption, captioning them, and what stderr tells."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import click
from tqdm import tqdm

from captionlens import files
from captionlens.cli.sources import Found
from captionlens.errors import CaptionlensError
from captionlens.outputs.sinks import STDIN, LastingSink, Sink
from captionlens.runtime.caption import Caption
from captionlens.runtime.photograph import Photograph


@dataclass(slots=True)
class Counts:
    """Numbers of photographs of a run, and the names of those that failed."""

    total: int = 0
    skipped: int = 0
    captioned: int = 0
    withheld: int = 0
    failures: list[str] = field(default_factory=list)


def left_to_caption(
    photographs: Sequence[Photograph], sinks: Sequence[LastingSink], *, checksum: bool
) -> dict[int, Photograph]:
    """Find the photographs that a sink has no caption of, by their numbers; files are looked at, not read.

    Args:
        photographs: of the run; each gets the facts of its file.
        sinks: that keep captions from run to run.
        checksum: read the files for their checksums.
    """
    left = {}
    for number, photograph in enumerate(photographs):
        if photograph.name != STDIN:
            with suppress(OSError):  # reported when it is read
                photograph.file = files.stamp(photograph.name, checksum=checksum)
        there = photograph.file is not None and bool(sinks)
        if not (there and all(_has(sink, photograph) for sink in sinks)):
            left[number] = photograph
    return left


def _has(sink: LastingSink, photograph: Photograph) -> bool:
    try:
        return sink.has(photograph)
    except CaptionlensError:  # reported when the caption is written
        return False


def distribute(captions: Iterator[Caption], sinks: Sequence[Sink], counts: Counts, *, number: int, quiet: bool) -> None:
    """Write every caption to every sink; report failed photographs on stderr, and go on.

    Args:
        captions: of the photographs of a run.
        sinks: to write to.
        counts: to add to.
        number: of the captions.
        quiet: show no progress bar.
    """
    hidden = True if quiet or number == 1 else None
    with tqdm(captions, total=number, desc="captions", unit="photo", disable=hidden) as bar:
        for result in bar:
            counts.withheld += result.withheld
            problems = [] if result.error is None else [result.error]
            for sink in sinks:
                try:
                    sink.write(result)
                except CaptionlensError as error:
                    problems.append(error)
            counts.captioned += not problems
            if problems:
                counts.failures.append(result.path or STDIN)
            for problem in problems:
                tqdm.write(f"captionlens: {problem}", file=sys.stderr)


def tell(counts: Counts, *, quiet: bool) -> None:
    """Say on stderr what did not become a caption, and why."""
    if counts.skipped and not quiet:
        say(f"{counts.skipped:,} of {counts.total:,} photographs are captioned already")
    if counts.withheld and not quiet:
        say(f"{counts.withheld:,} of {counts.total:,} captions are too unsure and not shown")
    if counts.failures:
        say(f"{len(counts.failures):,} of {counts.total:,} photographs failed")


def tell_left_out(found: Found, *, quiet: bool) -> None:
    """Say on stderr what was not taken from folders, and why."""
    for problem in found.problems:
        say(str(problem))
    if found.left_out and not quiet:
        say("left out: " + ", ".join(f"{reason}: {count:,}" for reason, count in found.left_out.items()))


def say(message: str) -> None:
    """Write a message on stderr, after the name of the program."""
    click.echo(f"captionlens: {message}", err=True)
