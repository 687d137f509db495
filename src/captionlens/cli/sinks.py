"""The sinks that a command line asks for: those that keep captions from run to run, and those that do not."""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

from captionlens.cli.collection import say
from captionlens.files import atomic_open, sha256
from captionlens.outputs import OnExisting, Sidecar, SidecarNames, Spreadsheet
from captionlens.outputs.caption_file import open_caption_file
from captionlens.outputs.embedded import Embedded
from captionlens.outputs.figures import Figures
from captionlens.outputs.formats import format_of, open_writer
from captionlens.outputs.html_report import open_report
from captionlens.outputs.sidecar import Sidecars
from captionlens.outputs.sinks import LastingSink, Sink
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.model_directory import MANIFEST, PACKAGED_MODEL
from captionlens.runtime.request import CaptionRequest


@contextmanager
def open_lasting(
    names: Sequence[str],
    many: bool,
    *,
    model: Path | None,
    options: Mapping[str, Any],
    keywords: bool,
    quiet: bool,
    format_: str,
    attention: bool,
    spreadsheet: Spreadsheet | None,
    output: Path | None,
    sidecar: Sidecar | None,
    sidecar_names: SidecarNames,
    embed: bool,
    explain: Path | None,
    on_existing: OnExisting,
    **_: Any,
) -> Iterator[list[LastingSink]]:
    """Open the sinks that keep captions: the file of -o, sidecars, figures.

    Args:
        names: of the photographs of this run.
        many: whether more than one may come.
        model: model directory; None is the packaged one.
        options: of the run, which an unfinished run must share.
        keywords: whether captions have keywords.
        quiet: tell nothing but failures.
        format_, attention, spreadsheet, output, sidecar, sidecar_names, embed, explain, on_existing: see
            `options.output_options`.

    Raises:
        FileError: see `open_caption_file`.
    """
    sinks: list[LastingSink] = []
    beside = embedded = lines = None
    with ExitStack() as stack:
        if sidecar is not None:
            beside = Sidecars(sidecar, on_existing, sidecar_names, keywords=keywords)
            sinks.append(beside)
        if embed:  # the first: it changes the files, whose size and time others record
            embedded = stack.enter_context(closing(Embedded(on_existing, keywords=keywords)))
            sinks.insert(0, embedded)
        if explain is not None:
            sinks.append(Figures(explain, names, on_existing))
        if output is not None and _is_regular(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            format = format_of(format_, many=many, attention=attention, spreadsheet=spreadsheet, keywords=keywords)
            about = {"model": _identity(model), "format": format_, "attention": attention}
            said = about | _plain({"spreadsheet": spreadsheet, **options})
            batch = options["batch size"]
            # The last one: when it keeps a batch, the others have it.
            lines = stack.enter_context(
                open_caption_file(output, format, names, on_existing=on_existing, options=said, batch=batch)
            )
            sinks.append(lines)
        yield sinks
    if quiet:
        return
    if lines is not None and (others := lines.others):
        gone = sum(not Path(name).exists() for name in others)
        say(f"{output} keeps {len(others):,} captions of other photographs, {gone:,} of which are gone")
    if replaced := sum(sink.replaced for sink in (beside, embedded) if sink is not None):
        say(f"{replaced:,} captions that captionlens did not write were replaced")


@contextmanager
def open_passing(
    count: int,
    many: bool,
    model: str,
    request: CaptionRequest,
    *,
    format_: str,
    attention: bool,
    spreadsheet: Spreadsheet | None,
    output: Path | None,
    report: Path | None,
    **_: Any,
) -> Iterator[list[Sink]]:
    """Open the sinks of this run alone: stdout, or a pipe, and the report.

    Args:
        count: number of photographs that come.
        many: whether more than one may.
        model: name of the captioner.
        request: of the captions.
        format_, attention, spreadsheet, output, report: see `options.output_options`.

    Raises:
        OSError: an output cannot be written.
    """
    sinks: list[Sink] = []
    with ExitStack() as stack:
        if output is None or not _is_regular(output):
            stream = sys.stdout if output is None else stack.enter_context(_text(output))
            sinks.append(
                stack.enter_context(
                    open_writer(
                        format_,
                        stream,
                        many=many,
                        attention=attention,
                        spreadsheet=spreadsheet,
                        keywords=request.keywords > 0,
                    )
                )
            )
        if report is not None:
            report.parent.mkdir(parents=True, exist_ok=True)
            about = {"model": model, "decoding": _describe(request.decoding)}
            opened = open_report(report, expected=count, examined=request.faithfulness, **about)
            sinks.append(stack.enter_context(opened))
        yield sinks


def _is_regular(output: Path) -> bool:
    """Whether an output is a file, or will be one, and no pipe or device."""
    return output.is_file() or not output.exists()


@contextmanager
def _text(output: Path) -> Iterator[TextIO]:
    with atomic_open(output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def _identity(model: Path | None) -> str:
    """Identity of a model: the checksum of its manifest, which has those of all its files."""
    manifest = (PACKAGED_MODEL if model is None else model) / MANIFEST
    return sha256(manifest)[:16] if manifest.is_file() else "none"  # a missing one is reported when it is loaded


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given, as plain values."""
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in options.items()
        if value not in (None, "", False)
    }


def _describe(options: DecodingOptions) -> str:
    if options.temperature is not None:
        return f"sampled, temperature {options.temperature:g}, seed {options.seed}"
    return "greedy" if options.beam == 1 else f"beam {options.beam}"
