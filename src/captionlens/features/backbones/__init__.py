"""Networks trained on ImageNet that turn a photograph into a grid of features."""

from pathlib import Path

from captionlens.errors import OptionError
from captionlens.features.backbones import efficientnet_lite
from captionlens.features.backbones.base import Backbone

DEFAULT = "efficientnet_lite2"
NAMES = (*efficientnet_lite.SIZES, "inception_v3", "timm:NAME")

__all__ = ["DEFAULT", "NAMES", "Backbone", "load_backbone"]


def load_backbone(name: str = DEFAULT, weights: Path | None = None, image_size: int | None = None) -> Backbone:
    """A backbone with ImageNet weights, in evaluation mode.

    Args:
        name: one of NAMES.
        weights: a file of published weights instead of those that come with a package or a download.
        image_size: pixels a side that photographs are shown at, None: as the network was trained. Larger photographs
            show more and give a finer grid, at a price that grows with their area. EfficientNet-Lite only.

    Raises:
        OptionError: the name is not known, or the size not one for this backbone.
        MissingExtra: the backbone's package is not installed.
        WeightsError: the weights are missing or do not fit.
    """
    if image_size is not None and image_size < 32:
        raise OptionError(f"image_size must be at least 32, got {image_size}")
    if name in efficientnet_lite.SIZES:
        return efficientnet_lite.load(name, weights, image_size)
    if image_size is not None:
        raise OptionError(
            f"{name} takes photographs of one size only: image_size is for the EfficientNet-Lite networks"
        )
    if name == "inception_v3":
        from captionlens.features.backbones import inception_v3

        return inception_v3.load(weights)
    if name.startswith("timm:"):
        from captionlens.features.backbones import timm_backbone

        return timm_backbone.load(name, weights)
    raise OptionError(f"unknown backbone {name!r}: use one of {', '.join(NAMES)}")
