"""Initialisation of a run from the trained weights of another: `train --from RUN`.

The network's settings, the vocabulary and the backbone are those of the other run; the rest is the new run's own.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from captionlens.errors import OptionError, RunError
from captionlens.network import CaptioningNetwork
from captionlens.training.config import TrainingConfig, make_config
from captionlens.training.run_folder import DataSettings, RunFolder, kept_weights
from captionlens.training.tuning import TAIL

# The settings that determine the weights' shapes and meaning; dropout is not among them.
_TAKEN = ("backbone", "image_size", "vocabulary_size", "min_count")


def begin_from(
    source: RunFolder, data: DataSettings, preset: str, changes: dict[str, Any]
) -> tuple[DataSettings, TrainingConfig]:
    """Make the data settings and configuration of a run that starts from another's kept weights.

    With the same data sets, the other run's feature store is used, unless the new run names one or trains other blocks
    of the backbone.

    Args:
        source: the run to start from.
        data: of the new run.
        preset: of the new run.
        changes: to the preset, as in `make_config`.

    Raises:
        RunError: the kept weights of the other run are missing or damaged.
        OptionError: a setting contradicts the other run's network, vocabulary or backbone, or makes no sense.
    """
    kept_weights(source.path)  # refuses a run without them before any work
    theirs = _fixed(source.config)
    taken = {name: getattr(source.config, name) for name in _TAKEN}
    config = make_config(preset, {"network": _network(source.config)}, taken, changes)
    for name, value in _fixed(config).items():
        if value != theirs[name]:
            raise OptionError(f"{name} is {theirs[name]!r} in {source.path}, which this run starts from, got {value!r}")
    weights = source.data.backbone_weights
    if data.backbone_weights not in (None, weights):
        raise OptionError(
            f"the backbone's weights are {weights or 'the usual ones'} in {source.path}, which this run starts from, "
            f"got {data.backbone_weights}"
        )
    features = data.features
    same_part = config.finetune_blocks == source.config.finetune_blocks  # of the backbone is frozen
    if features is None and data.datasets == source.data.datasets and same_part:
        features = str(source.features)
    return replace(data, from_run=str(source.path), features=features, backbone_weights=weights), config


def load_starting_weights(network: CaptioningNetwork, source: Path, temperature: float = 1.0) -> None:
    """Load the kept weights of a run into a network; those of the backbone are loaded already.

    Args:
        network: with the same settings and vocabulary.
        source: the run.
        temperature: divides the logits: below 1, the distributions become sharper.

    Raises:
        RunError: the weights are missing, damaged, or those of another network.
    """
    kept = kept_weights(source)
    try:
        own = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(TAIL)}
        others = {name: tensor for name, tensor in kept.items() if not name.startswith(TAIL)}
        network.load_state_dict(own | others)
    except RuntimeError as error:
        raise RunError(source, f"cannot be started from ({error})") from error
    network.divide_logits(temperature)


def _network(config: TrainingConfig) -> dict[str, Any]:
    """All settings of a run's network, defaults and preset included."""
    sizes = {"vocabulary", "rows", "columns", "channels"}  # not settings: they follow from vocabulary and backbone
    settings = config.network_config(vocabulary=1, rows=1, columns=1, channels=1).to_dict()
    return {name: value for name, value in settings.items() if name not in sizes}


def _fixed(config: TrainingConfig) -> dict[str, Any]:
    """The settings that must not differ, by their user-visible names."""
    network = {f"network.{name}": value for name, value in _network(config).items() if name != "dropout"}
    return {name: getattr(config, name) for name in _TAKEN} | network
