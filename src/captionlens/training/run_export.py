"""Export of a training run as a model directory."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captionlens.errors import CaptionlensError, OptionError
from captionlens.export.card import check_name, terms_of
from captionlens.export.rewriting import changed_decoding
from captionlens.export.writing import write_model
from captionlens.features.backbones import Backbone
from captionlens.network import CaptioningNetwork
from captionlens.runtime.model_directory import drafted
from captionlens.runtime.vocabulary import Vocabulary
from captionlens.training.averaging import averaged_weights
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
    length_penalty: float | None = None,
    weights: str = "half",
    averaged_with: Sequence[RunFolder] = (),
    shares: Sequence[float] = (),
    temperature: float = 1.0,
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
        length_penalty: default length penalty of the captioner; by default that of the run's validation.
        weights: precision of the stored weights, "half" or "int8", see `export.weights`.
        averaged_with: runs whose kept weights are averaged with those of `run`, see `training.averaging`.
        shares: of `run` and of each of these in the average; by default equal ones.
        temperature: divides the logits. Self-critical training makes a captioner sure of itself; above 1, beam search
            weighs more alternatives again.
        reports: of `captionlens evaluate`, one for each data set, whose scores the card then shows.
        notes: Markdown for the end of the card.
        examples: photographs to compare both networks on; synthetic ones if there are none.

    Raises:
        RunError: there is nothing to export, or a run cannot be averaged with the others.
        OptionError: the name, the beam, the length penalty or the temperature is not valid, or there is not one share
            above 0 for each run.
        ModelError: the folder holds something else, or the exported graphs differ from the network.
    """
    model = model or run.model
    if name is not None:
        check_name(name)
    if not 0 < temperature < math.inf:
        raise OptionError(f"temperature must be a number above 0, got {temperature:g}")
    runs = (run, *averaged_with)
    shares = shares or (1.0,) * len(runs)
    lineage = _lineage(run)
    datasets = _datasets([*lineage, *(before for other in averaged_with for before in _lineage(other))])
    with drafted(model) as draft:
        network, vocabulary, backbone = load_best(run, averaged_with, shares)
        network.divide_logits(temperature)
        write_model(
            draft,
            network,
            vocabulary,
            backbone,
            name=name or run.model_name,
            decoding=changed_decoding(run.config.decoding, beam, length_penalty),
            history={
                "trained_on": ", ".join(datasets),
                "licence": licence or terms_of(datasets),
                "training": run.config.to_dict(),
                "training_before": [step.config.to_dict() for step in lineage[:-1]],
                **_average(runs, shares),
                **({} if temperature == 1 else {"temperature": temperature}),
                "best_epoch": json.loads((run.path / "best.json").read_text()),
                "evaluations": [_evaluation(report) for report in reports],
            },
            weights=weights,
            notes=notes,
            examples=examples,
        )
    log.info("wrote the model to %s", model)
    return model


def _lineage(run: RunFolder) -> list[RunFolder]:
    """The chain of runs that ends with this one, earliest first, as far as they still exist."""
    runs = [run]
    while runs[0].data.from_run:
        try:
            runs.insert(0, open_run(Path(runs[0].data.from_run)))
        except CaptionlensError as error:
            log.warning("the model does not tell of an earlier step of its training: %s", error)
            break
    return runs


def _average(runs: Sequence[RunFolder], shares: Sequence[float]) -> dict[str, Any]:
    """Entry of config.json about the runs whose weights were averaged, if there are several."""
    if len(runs) == 1:
        return {}
    parts = zip(runs, shares, strict=True)
    return {"averaged": [{"run": run.model_name, "share": share / sum(shares)} for run, share in parts]}


def _datasets(runs: Sequence[RunFolder]) -> list[str]:
    """Names of all data sets that runs were trained on, in the order of training, each once."""
    return list(dict.fromkeys(Path(dataset).name for run in runs for dataset in run.data.datasets))


def _evaluation(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an evaluation report that a model keeps: all but the captions and the omitted photographs."""
    names = ("dataset", "split", "photographs", "decoding", "scores", "intervals", "grounding", "faithfulness")
    return {name: _without_lists(report[name]) for name in names if name in report}


def _without_lists(part: Any) -> Any:
    """Remove the lists of omitted photographs from a part of a report."""
    if not isinstance(part, Mapping):
        return part
    return {name: _without_lists(value) for name, value in part.items() if name != "left_out"}


def load_best(
    run: RunFolder, averaged_with: Sequence[RunFolder] = (), shares: Sequence[float] = (1.0,)
) -> tuple[CaptioningNetwork, Vocabulary, Backbone]:
    """Load the network of the kept epoch, in evaluation mode, its vocabulary and its backbone.

    Args:
        run: with at least one finished epoch.
        averaged_with: runs whose weights are averaged with its own.
        shares: of each in the average.

    Raises:
        RunError: a run has no finished epoch, or cannot be averaged with the others.
        OptionError: there is not one share above 0 for each run.
    """
    kept = averaged_weights([run, *averaged_with], shares)
    vocabulary = Vocabulary.load(run.path / "tokenizer.json")
    backbone = tuned_backbone(run)
    rows, columns = backbone.grid
    network = CaptioningNetwork(
        run.config.network_config(vocabulary=len(vocabulary), rows=rows, columns=columns, channels=backbone.channels)
    )
    network.load_state_dict({name: tensor for name, tensor in kept.items() if not name.startswith(TAIL)})
    return network.eval(), vocabulary, backbone
