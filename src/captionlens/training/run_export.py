"""Export of a training run as a model directory."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch

from captionlens.errors import CaptionlensError, RunError
from captionlens.export.card import check_name, terms_of
from captionlens.export.writing import write_model
from captionlens.features.backbones import Backbone
from captionlens.network import CaptioningNetwork
from captionlens.runtime.model_directory import drafted
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.training.run_folder import RunFolder, open_run
from captionlens.training.tuning import TAIL, tuned_backbone

log = logging.getLogger("captionlens")


def export_run(
    run: RunFolder,
    model: Path | None = None,
    *,
    name: str | None = None,
    licence: str | None = None,
    beam: int | None = None,
    weights: str = "half",
    reports: Sequence[Mapping[str, Any]] = (),
    notes: str = "",
    examples: Sequence[Path] = (),
) -> Path:
    """Write the kept epoch of a run as a model directory.

    The weights are rounded to the precision of the directory. Captions, log-probabilities and attention of the torch
    network with these weights are compared with those of ONNX Runtime; if they differ, no directory is written.

    Args:
        run: a run with at least one finished epoch.
        model: the directory to write, by default `model` in the run folder; an earlier export is replaced.
        name: of the model, by default the run's.
        licence: terms of use of the model, for its card; by default the data set's known terms.
        beam: default beam width of the captioner; by default that of the run's validation.
        weights: precision of the stored weights, "half" or "int8", see `export.weights`.
        reports: of `captionlens evaluate`, one for each data set, whose scores the card then shows.
        notes: Markdown for the end of the card.
        examples: photographs to compare both networks on; synthetic ones if there are none.

    Raises:
        RunError: there is nothing to export.
        OptionError: the name is not valid.
        ModelError: the folder holds something else, or the exported graphs differ from the network.
    """
    model = model or run.model
    if name is not None:
        check_name(name)
    with drafted(model) as draft:
        network, vocabulary, backbone = load_best(run)
        write_model(
            draft,
            network,
            vocabulary,
            backbone,
            name=name or run.model_name,
            decoding=run.config.decoding if beam is None else replace(run.config.decoding, beam=beam),
            history={
                "trained_on": run.data.trained_on,
                "licence": licence or terms_of([Path(dataset).name for dataset in run.data.datasets]),
                "training": run.config.to_dict(),
                "training_before": _steps_before(run),
                "best_epoch": json.loads((run.path / "best.json").read_text()),
                "evaluations": [_evaluation(report) for report in reports],
            },
            weights=weights,
            notes=notes,
            examples=examples,
        )
    log.info("wrote the model to %s", model)
    return model


def _steps_before(run: RunFolder) -> list[dict[str, Any]]:
    """Settings of the chain of runs that this one starts from, earliest first, as far as they still exist."""
    steps: list[dict[str, Any]] = []
    while run.data.from_run:
        try:
            run = open_run(Path(run.data.from_run))
        except CaptionlensError as error:
            log.warning("the model does not tell of an earlier step of its training: %s", error)
            break
        steps.insert(0, run.config.to_dict())
    return steps


def _evaluation(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an evaluation report that a model keeps: all but the captions and the omitted photographs."""
    names = ("dataset", "split", "photographs", "decoding", "scores", "intervals", "grounding", "faithfulness")
    return {name: _without_lists(report[name]) for name in names if name in report}


def _without_lists(part: Any) -> Any:
    """Remove the lists of omitted photographs from a part of a report."""
    if not isinstance(part, Mapping):
        return part
    return {name: _without_lists(value) for name, value in part.items() if name != "left_out"}


def load_best(run: RunFolder) -> tuple[CaptioningNetwork, Vocabulary, Backbone]:
    """Load the network of the kept epoch, in evaluation mode, its vocabulary and its backbone.

    Raises:
        RunError: the run has no finished epoch.
    """
    path = run.path / "best.safetensors"
    if not path.exists():
        raise RunError(run.path, "has no best.safetensors: it was never trained to the end of an epoch")
    vocabulary = Vocabulary.load(run.path / "tokenizer.json")
    backbone = tuned_backbone(run)
    rows, columns = backbone.grid
    network = CaptioningNetwork(
        run.config.network_config(vocabulary=len(vocabulary), rows=rows, columns=columns, channels=backbone.channels)
    )
    kept = safetensors.torch.load_file(path)
    network.load_state_dict({name: tensor for name, tensor in kept.items() if not name.startswith(TAIL)})
    return network.eval(), vocabulary, backbone
