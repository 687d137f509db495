"""Networks trained on ImageNet that turn a photograph into a grid of features."""

from pathlib import Path

from captionlens.errors import OptionError
from captionlens.features.backbones import efficientnet_lite
from captionlens.features.backbones.base import Backbone

DEFAULT = "efficientnet_lite2"
NAMES = (*efficientnet_lite.SIZES, "inception_v3", "timm:NAME")

__all__ = ["DEFAULT", "NAMES", "Backbone", "load_backbone"]


def load_backbone(name: str = DEFAULT, weights: Path | None = None) -> Backbone:
    """A backbone with ImageNet weights, in evaluation mode.

    Args:
        name: one of NAMES.
        weights: a file of published weights instead of those that come with a package or a download.

    Raises:
        OptionError: the name is not known.
        MissingExtra: the backbone's package is not installed.
        WeightsError: the weights are missing or do not fit.
    """
    if name in efficientnet_lite.SIZES:
        return efficientnet_lite.load(name, weights)
    if name == "inception_v3":
        from captionlens.features.backbones import inception_v3

        return inception_v3.load(weights)
    if name.startswith("timm:"):
        from captionlens.features.backbones import timm_backbone

        return timm_backbone.load(name, weights)
    raise OptionError(f"unknown backbone {name!r}: use one of {', '.join(NAMES)}")
