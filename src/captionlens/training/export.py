"""A training run becomes a model directory, and the export checks itself before it counts."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from numpy.typing import NDArray

from captionlens.errors import CaptionlensError, ModelError, OptionError, RunError, UnreadableImage
from captionlens.features.backbones import Backbone, untrained_backbones
from captionlens.files import sha256, write_bytes, write_text
from captionlens.network import CaptioningNetwork, NetworkConfig
from captionlens.runtime import confidence
from captionlens.runtime.decoding import DecodingOptions, Network, decode, force
from captionlens.runtime.model_directory import FORMAT, WEIGHTS, ModelDirectory, drafted, write_manifest
from captionlens.runtime.onnx_network import OnnxNetwork
from captionlens.runtime.vocabulary import PAD, START, Vocabulary
from captionlens.training.card import model_card, terms_of, with_weights
from captionlens.training.onnx_export import export_graphs
from captionlens.training.run_folder import RunFolder, open_run
from captionlens.training.seam import TorchNetwork
from captionlens.training.tuning import TAIL, tuned_backbone
from captionlens.training.weights import fill, store

log = logging.getLogger("captionlens")

# What config.json says of a model by itself; the rest is its history.
_DESCRIPTION = ("format", "name", "backbone", "grid", "network", "weights", "decoding")

TOLERANCE = 1e-4  # of log-probabilities and attention, torch against ONNX Runtime


def export_run(
    run: RunFolder,
    model: Path | None = None,
    *,
    name: str | None = None,
    licence: str | None = None,
    beam: int | None = None,
    weights: str = "half",
    report: Mapping[str, Any] | None = None,
    notes: str = "",
    examples: Sequence[Path] = (),
) -> Path:
    """Write the kept epoch of a run as a model directory.

    The weights are rounded to what the directory keeps; captions, log-probabilities and attention of the torch network
    with these weights are compared with ONNX Runtime's, and a difference keeps the directory from appearing.

    Args:
        run: a run with at least one finished epoch.
        model: the directory to write, by default `model` in the run folder; an earlier export is replaced.
        name: of the model, by default "captionlens-" and the preset.
        licence: under which the model may be used, for its card; by default the data set's known terms.
        beam: that the captioner searches with unless a call says otherwise; by default that of the run's validation.
        weights: how they are kept, see `training.weights`: "half" or "int8".
        report: of `captionlens evaluate`, whose scores the card then shows.
        notes: in Markdown, at the end of the card: what else users should know.
        examples: photographs to compare both networks on; made-up ones where there are none.

    Raises:
        RunError: there is nothing to export.
        ModelError: the folder holds something else, or the export does not do what the network does.
    """
    model = model or run.path / "model"
    name = name or f"captionlens-{run.config.preset}"
    with drafted(model) as draft:
        network, vocabulary, backbone = load_best(run)
        write_model(
            draft,
            network,
            vocabulary,
            backbone,
            name=name,
            decoding=DecodingOptions(
                beam=run.config.beam if beam is None else beam,
                length_penalty=run.config.length_penalty,
                max_words=min(run.config.max_words, 30),
            ),
            history={
                "trained_on": run.data.dataset_name,
                "licence": licence or terms_of(run.data.dataset_name),
                "training": run.config.to_dict(),
                "training_before": _steps_before(run),
                "best_epoch": json.loads((run.path / "best.json").read_text()),
                "evaluation": _evaluation(report) if report else None,
            },
            weights=weights,
            notes=notes,
            examples=examples,
        )
    log.info("wrote the model to %s", model)
    return model


def export_again(
    source: Path, model: Path, *, name: str | None = None, beam: int | None = None, weights: str = "half"
) -> Path:
    """Write a model directory anew: with the graphs of this version, or with smaller weights.

    Its card and what else lies beside it goes along; its calibration too if the weights stay the same.

    Args:
        source: a model directory.
        model: the directory to write, which may be `source`.
        name: of the model, by default its own.
        beam: by default its own.
        weights: how they are kept, see `training.weights`: "half" or "int8".

    Raises:
        ModelError: `source` is not whole, `model` is something else than a model directory, or the export does not do
            what the network does.
        MissingExtra: the backbone's package is not installed.
    """
    old = ModelDirectory.open(source)
    with drafted(model) as draft:
        network, backbone = reopen(old)
        write_model(
            draft,
            network,
            old.vocabulary,
            backbone,
            name=name or old.name,
            decoding=old.decoding if beam is None else replace(old.decoding, beam=beam),
            history={key: value for key, value in old.config.items() if key not in _DESCRIPTION},
            weights=weights,
        )
        same = sha256(draft / WEIGHTS) == sha256(old.weights)
        for file in source.iterdir():
            if file.is_file() and not (draft / file.name).exists() and (same or file.name != confidence.NAME):
                shutil.copyfile(file, draft / file.name)
        card = (source / "README.md").read_text("utf-8")
        card = card.replace(f"# {old.name}\n", f"# {name or old.name}\n", 1)
        write_text(draft / "README.md", with_weights(card, weights, changed=not same))
        write_manifest(draft)
        ModelDirectory.open(draft)
    log.info("wrote the model to %s", model)
    if old.calibration is not None and not same:
        log.warning("the calibration was of other weights and is left out: captionlens model calibrate makes one")
    return model


def reopen(model: ModelDirectory) -> tuple[CaptioningNetwork, Backbone]:
    """The torch network and the backbone of a model directory, in evaluation mode.

    Raises:
        ModelError: the weights are not those of the network that the directory tells of.
        MissingExtra: the backbone's package is not installed.
    """
    kept = safetensors.torch.load_file(model.weights)
    problem = ModelError(model.folder, "names no backbone")
    for backbone in untrained_backbones(str(model.config["backbone"]), model.preprocessing.size):
        try:
            network = CaptioningNetwork(NetworkConfig(**model.config["network"])).eval()
            fill({"network": network, "backbone": backbone}, kept)
            check_export(network, backbone, model.folder, model.decoding)
        except (KeyError, TypeError, ValueError, OptionError) as error:
            raise ModelError(model.folder, f"has weights that do not fit its config.json ({error})") from error
        except ModelError as error:  # another one of the name may fit
            problem = error
        else:
            return network, backbone
    raise problem


def write_model(
    folder: Path,
    network: CaptioningNetwork,
    vocabulary: Vocabulary,
    backbone: Backbone,
    *,
    name: str,
    decoding: DecodingOptions,
    history: dict[str, Any],
    weights: str = "half",
    notes: str = "",
    examples: Sequence[Path] = (),
) -> None:
    """Write a model directory, and check that it does what the network does.

    Args:
        folder: a new folder.
        network: in evaluation mode; its weights are rounded in place to those that are kept.
        vocabulary: of as many words as the network.
        backbone: fused and rounded in place.
        name: of the model.
        decoding: how it searches unless a call says otherwise; beam, length penalty and most words are kept.
        history: what it was trained on and how, for config.json and the model card: `trained_on`, `training`
            and `best_epoch`, its `licence`, and where it was trained in several steps, `training_before`.
        weights: how they are kept, see `training.weights`: "half" or "int8".
        notes: in Markdown, at the end of the model card.
        examples: photographs to compare both networks on; made-up ones where there are none.

    Raises:
        ModelError: the directory does not do what the network does.
    """
    backbone = backbone.fuse()
    kept = store({"backbone": backbone, "network": network}, weights)
    (folder / "onnx").mkdir(parents=True)
    write_bytes(folder / WEIGHTS, safetensors.torch.save(kept, {"format": "pt"}))
    export_graphs(network, backbone, folder / "onnx", folder / WEIGHTS)
    vocabulary.save(folder / "tokenizer.json")
    _write_json(folder / "preprocessor_config.json", backbone.preprocessing.to_dict())
    config = {
        "format": FORMAT,
        "name": name,
        "backbone": backbone.name,
        "grid": list(backbone.grid),
        "network": network.config.to_dict(),
        "weights": weights,
        "decoding": {
            "beam": decoding.beam,
            "length_penalty": decoding.length_penalty,
            "max_words": decoding.max_words,
        },
        **history,
    }
    _write_json(folder / "config.json", config)
    write_text(folder / "README.md", model_card(config, notes))
    write_manifest(folder)
    check_export(network, backbone, folder, decoding, examples)


def _steps_before(run: RunFolder) -> list[dict[str, Any]]:
    """Settings of the runs that this one goes on from, the first first, as far as they are still there."""
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
    """What a model keeps of its evaluation report: all but the captions and what was left out."""
    names = ("dataset", "split", "photographs", "decoding", "scores", "intervals", "grounding", "faithfulness")
    return {name: _without_lists(report[name]) for name in names if name in report}


def _without_lists(part: Any) -> Any:
    """A part of a report without the photographs that were left out."""
    if not isinstance(part, Mapping):
        return part
    return {name: _without_lists(value) for name, value in part.items() if name != "left_out"}


def load_best(run: RunFolder) -> tuple[CaptioningNetwork, Vocabulary, Backbone]:
    """The kept epoch's network, in evaluation mode, its words, and the backbone that makes its grids.

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


def check_export(
    network: CaptioningNetwork,
    backbone: Backbone,
    model: Path,
    decoding: DecodingOptions,
    examples: Sequence[Path] = (),
) -> None:
    """Compare the torch network with ONNX Runtime on photographs, at a batch size that was not exported.

    Raises:
        ModelError: features, log-probabilities, attention or captions differ.
    """
    directory = ModelDirectory.open(model)
    torch_side: Network = TorchNetwork(network, backbone)
    onnx_side: Network = OnnxNetwork(directory)
    images = _example_images(backbone, examples)  # (B, 3, H, W)
    features = torch_side.encode(images)
    _compare(model, "features", features.numpy(), onnx_side.encode(images), scale=float(features.abs().max()))
    ours = decode(torch_side, features, decoding)
    theirs = decode(onnx_side, features.numpy(), decoding)
    longest = max(len(hypothesis.tokens) for hypothesis in ours)
    tokens = np.full((len(images), 1, longest + 1), PAD, np.int64)
    for row, hypothesis in enumerate(ours):
        tokens[row, 0, : len(hypothesis.tokens) + 1] = (START, *hypothesis.tokens)
    for (log_probs, attention), (other_log_probs, other_attention) in zip(
        force(torch_side, features, tokens), force(onnx_side, features.numpy(), tokens), strict=True
    ):
        _compare(model, "log-probabilities", log_probs, other_log_probs)
        _compare(model, "attention", attention, other_attention)
    if [hypothesis.tokens for hypothesis in ours] != [hypothesis.tokens for hypothesis in theirs]:
        raise ModelError(model, "writes other captions than the network it was exported from")


def _compare(
    model: Path, what: str, ours: NDArray[np.float32], theirs: NDArray[np.float32], scale: float = 1.0
) -> None:
    difference = float(np.abs(ours - theirs).max()) / max(scale, 1.0)
    if not difference <= TOLERANCE:
        raise ModelError(model, f"{what} differ from torch's by {difference:.1e}, more than {TOLERANCE:.0e}")


def _example_images(backbone: Backbone, examples: Sequence[Path]) -> NDArray[np.float32]:
    """A batch of 5 at most, and of 3 at least: the graphs were traced with 2."""
    pixels = []
    for path in examples[:5]:
        try:
            pixels.append(backbone.preprocessing.read(path))
        except UnreadableImage:
            continue
    size = backbone.preprocessing.size
    random = np.random.default_rng(0)
    while len(pixels) < 3:
        coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
        picture = np.kron(coarse, np.ones((size // 8 + 1, size // 8 + 1, 1), np.uint8))
        pixels.append(picture[:size, :size])
    return backbone.preprocessing.normalise(np.stack(pixels))


def _write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
