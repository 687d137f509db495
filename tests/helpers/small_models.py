"""Model directories of small networks that were never trained."""

from pathlib import Path
from typing import Any

import torch

from captionlens.export.writing import write_model
from captionlens.features.backbones import Backbone
from captionlens.network import CaptioningNetwork, NetworkConfig
from captionlens.runtime.decoding import DecodingOptions
from captionlens.runtime.vocabulary import Vocabulary
from helpers.tiny_backbone import TinyBackbone

WORDS = "a red green blue white yellow circle square star cross is above beside the"


def write_tiny_model(folder: Path) -> None:
    """The model directory of the fixture `small_model`."""
    write_small_model(folder, TinyBackbone(), initial_state="mean")


def write_small_model(folder: Path, backbone: Backbone, *, weights: str = "half", **network: Any) -> NetworkConfig:
    """Write the model directory of a backbone and a small decoder with these settings of `NetworkConfig`.

    The decoder's weights are drawn larger than training would start from: otherwise all photographs get one caption.
    """
    vocabulary = Vocabulary.build([WORDS])
    rows, columns = backbone.grid
    sizes: dict[str, Any] = {"memory": 24, "embedding": 16, "units": 32, "attention": 16}
    config = NetworkConfig(len(vocabulary), rows, columns, backbone.channels, **network | sizes)
    decoder = CaptioningNetwork(config).eval()
    random = torch.Generator().manual_seed(13)
    with torch.no_grad():
        for parameter in decoder.parameters():
            fan_in = parameter.shape[-1] if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 2.5 / fan_in**0.5)
    write_model(
        folder,
        decoder,
        vocabulary,
        backbone,
        name="captionlens-small",
        decoding=DecodingOptions(beam=3, max_words=8),
        history={
            "trained_on": "",
            "licence": "Made for tests.",
            "training": {"preset": "tutorial"},
            "best_epoch": {"epoch": 0, "val_cider": 0.0},
        },
        weights=weights,
    )
    return config
