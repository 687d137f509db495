"""Writing a model directory: weights, graphs, words, settings, card and manifest, checked before it counts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch

from captionlens.export.card import model_card
from captionlens.export.checking import check_export
from captionlens.export.onnx_graphs import export_graphs
from captionlens.export.weights import store
from captionlens.features.backbones import Backbone
from captionlens.files import write_bytes, write_text
from captionlens.network import CaptioningNetwork
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.model_directory import FORMAT, WEIGHTS, write_manifest
from captionlens.runtime.vocabulary import Vocabulary

# What config.json says of a model by itself; the rest is its history.
DESCRIPTION = ("format", "name", "backbone", "grid", "network", "weights", "decoding")


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


def _write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
