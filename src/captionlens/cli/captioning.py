"""Captioning of a collection as the options ask for it: once by `caption`, again and again by `watch`."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from captionlens.cli.collection import Counts, distribute, left_to_caption
from captionlens.cli.sinks import open_lasting, open_passing
from captionlens.outputs.wording import Wording
from captionlens.runtime.photograph import Photograph

if TYPE_CHECKING:
    from captionlens.runtime.captioner import Captioner


class Captioning:
    """Captions of photographs, written to the outputs of a command line.

    Args:
        model: model directory; None is the packaged one. It is loaded when the first photograph needs it.
        search: see `options.search_options`.
        batch_size: photographs that are captioned together.
        computing: see `options.device_options`.
        outputs: see `options.output_options`.
        quiet: no progress bar, and no word but of failures.

    Raises:
        UsageError: options that contradict each other.
    """

    def __init__(
        self,
        *,
        model: Path | None,
        search: dict[str, Any],
        batch_size: int,
        computing: dict[str, Any],
        outputs: dict[str, Any],
        quiet: bool,
    ) -> None:
        _check_shown(search, outputs)
        self.model, self.search, self.batch_size = model, search, batch_size
        self.computing, self.outputs, self.quiet = computing, outputs, quiet
        self.wording = Wording(outputs["purpose"], outputs["template"], outputs["max_characters"])

    @cached_property
    def captioner(self) -> "Captioner":
        """The captioner of the model.

        Raises:
            UsageError: the options need a calibrated one, and it is not.
        """
        from captionlens.runtime.captioner import load  # slow to import, and not always needed

        captioner = load(self.model, **self.computing)
        if self.search["min_confidence"] is not None and captioner.calibration is None:
            raise click.UsageError(
                f"--min-confidence needs a calibrated model; {captioner.name} is not (captionlens model calibrate)"
            )
        return captioner

    def run(
        self,
        photographs: Sequence[Photograph],
        *,
        many: bool,
        chosen: Callable[[Photograph], bool] = lambda _: True,
    ) -> Counts:
        """Caption the photographs that no output has a caption of; return the numbers.

        Args:
            photographs: all of the collection, which outputs are named and ordered by.
            many: whether there may be more than one.
            chosen: of those without a caption, which ones to caption now.

        Raises:
            CaptionlensError: an output or the model cannot be opened.
            OSError: an output cannot be written.
        """
        names = [photograph.name for photograph in photographs]
        worded = {name: self.outputs[name] for name in ("purpose", "template", "max_characters")}
        options = self.search | worded | {"batch size": self.batch_size}
        with ExitStack() as stack:
            lasting = stack.enter_context(
                open_lasting(
                    names,
                    many,
                    model=self.model,
                    options=options,
                    keywords=bool(self.search["keywords"]),
                    quiet=self.quiet,
                    **self.outputs,
                )
            )
            known = [] if self.outputs["report"] else lasting
            left = left_to_caption(photographs, known, checksum=self.outputs["checksum"])
            counts = Counts(len(photographs), len(photographs) - len(left))
            left = {number: photograph for number, photograph in left.items() if chosen(photograph)}
            if left or not lasting:
                request = self.captioner.request(**self.search)
                captions = self.captioner.caption_many(
                    left.values(), batch_size=self.batch_size, options=request, numbers=left
                )
                passing = stack.enter_context(
                    open_passing(len(left), many, self.captioner.name, request, **self.outputs)
                )
                sinks = [*lasting, *passing]
                distribute(map(self.wording.apply, captions), sinks, counts, number=len(left), quiet=self.quiet)
        return counts


def _check_shown(search: dict[str, Any], outputs: dict[str, Any]) -> None:
    """Refuse options that cost time but change no output."""
    in_json = outputs["format_"] in ("json", "jsonl")
    if search["faithfulness"] and not in_json and outputs["report"] is None:
        raise click.UsageError("--faithfulness shows in --format json or jsonl, or in a --report")
    if search["alternatives"] and not in_json:
        raise click.UsageError("--alternatives shows in --format json or jsonl")
    in_metadata = outputs["sidecar"] == "xmp" or outputs["embed"]
    in_table = in_json or outputs["format_"] == "csv"
    if search["keywords"] and not (in_table or in_metadata or outputs["report"]):
        raise click.UsageError("--keywords shows in --format json, jsonl or csv, --sidecar xmp, --embed or a --report")
