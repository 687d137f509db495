"""Writing of a model directory: weights, graphs, vocabulary, settings, card and manifest."""

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

# The entries of config.json that describe the model itself; the rest is its history.
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
    """Write a model directory, and check that it gives the same results as the network.

    Args:
        folder: a new folder.
        network: in evaluation mode; its weights are rounded in place to the stored ones.
        vocabulary: of the same size as the network's.
        backbone: fused and rounded in place.
        name: of the model.
        decoding: its default decoding options; beam, length penalty and largest number of words are stored.
        history: data and settings of its training, for config.json and the model card: `trained_on`, `training`,
            `best_epoch` and `licence`, and after training in several stages `training_before`.
        weights: precision of the stored weights, "half" or "int8", see `export.weights`.
        notes: Markdown for the end of the model card.
        examples: photographs to compare both networks on; synthetic ones if there are none.

    Raises:
        ModelError: the directory gives other results than the network.
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
