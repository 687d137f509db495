"""Rewriting of a model directory, with the graphs of this version or with quantised weights."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import safetensors.torch

from captionlens.errors import ModelError, OptionError
from captionlens.export.card import check_name, with_weights
from captionlens.export.checking import check_export
from captionlens.export.weights import fill
from captionlens.export.writing import DESCRIPTION, write_model
from captionlens.features.backbones import Backbone, untrained_backbones
from captionlens.files import sha256, write_text
from captionlens.network import CaptioningNetwork, NetworkConfig
from captionlens.runtime import confidence
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.model_directory import WEIGHTS, ModelDirectory, drafted, write_manifest

log = logging.getLogger("captionlens")


def export_again(
    source: Path,
    model: Path,
    *,
    name: str | None = None,
    beam: int | None = None,
    length_penalty: float | None = None,
    weights: str = "half",
) -> Path:
    """Rewrite a model directory, with the graphs of this version or with quantised weights.

    Its card and other files, its nouns among them, are copied; its calibration too if the weights stay the same.

    Args:
        source: a model directory.
        model: the directory to write, which may be `source`.
        name: of the model; by default unchanged.
        beam: default beam width; by default unchanged.
        length_penalty: default length penalty; by default unchanged.
        weights: precision of the stored weights, "half" or "int8", see `export.weights`.

    Raises:
        ModelError: `source` is incomplete, `model` is something other than a model directory, or the exported graphs
            differ from the network.
        OptionError: the name, the beam or the length penalty is not valid.
        MissingExtra: the backbone's package is not installed.
    """
    if name is not None:
        check_name(name)
    old = ModelDirectory.open(source)
    with drafted(model) as draft:
        network, backbone = reopen(old)
        write_model(
            draft,
            network,
            old.vocabulary,
            backbone,
            name=name or old.name,
            decoding=changed_decoding(old.decoding, beam, length_penalty),
            history={key: value for key, value in old.config.items() if key not in DESCRIPTION},
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


def changed_decoding(decoding: DecodingOptions, beam: int | None, length_penalty: float | None) -> DecodingOptions:
    """Replace what is not None of a model's default decoding options.

    Raises:
        OptionError: a value is out of range.
    """
    return replace(
        decoding,
        beam=decoding.beam if beam is None else beam,
        length_penalty=decoding.length_penalty if length_penalty is None else length_penalty,
    )


def reopen(model: ModelDirectory) -> tuple[CaptioningNetwork, Backbone]:
    """Load the torch network and the backbone of a model directory, in evaluation mode.

    Raises:
        ModelError: the weights do not fit the network of config.json.
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
        except ModelError as error:  # another network of that name may fit
            problem = error
        else:
            return network, backbone
    raise problem
