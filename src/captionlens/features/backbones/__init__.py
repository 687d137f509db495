"""Backbones: networks pretrained on ImageNet that encode a photograph as grid features."""

from pathlib import Path

from captionlens.errors import OptionError
from captionlens.features.backbones import efficientnet_lite
from captionlens.features.backbones.base import Backbone

DEFAULT = "efficientnet_lite2"
NAMES = (*efficientnet_lite.SIZES, "inception_v3", "timm:NAME")

__all__ = ["DEFAULT", "NAMES", "Backbone", "check_image_size", "load_backbone", "untrained_backbones"]

_SMALLEST_IMAGE = 32  # side in pixels, with a grid of one place


def check_image_size(name: str, image_size: int | None) -> None:
    """Refuse an input size that a backbone does not support; None is its default.

    Raises:
        OptionError: the size is too small, or the backbone supports one size only.
    """
    if image_size is None:
        return
    if image_size < _SMALLEST_IMAGE:
        raise OptionError(f"image_size must be at least {_SMALLEST_IMAGE}, got {image_size}")
    if name not in efficientnet_lite.SIZES:
        raise OptionError(
            f"{name} takes photographs of one size only: image_size is for the EfficientNet-Lite networks"
        )


def load_backbone(name: str = DEFAULT, weights: Path | None = None, image_size: int | None = None) -> Backbone:
    """Load a backbone with ImageNet weights, in evaluation mode.

    Args:
        name: one of NAMES.
        weights: a file of published weights, instead of those from a package or a download.
        image_size: side of the input in pixels; None: as in training. A larger input shows more detail and gives a
            finer grid, at a cost that grows with its area. EfficientNet-Lite only.

    Raises:
        OptionError: the name is unknown, or the size not supported by this backbone.
        MissingExtra: the backbone's package is not installed.
        WeightsError: the weights are missing or do not fit.
    """
    check_image_size(name, image_size)
    if name in efficientnet_lite.SIZES:
        return efficientnet_lite.load(name, weights, image_size)
    if name == "inception_v3":
        from captionlens.features.backbones import inception_v3

        return inception_v3.load(weights)
    if name.startswith("timm:"):
        from captionlens.features.backbones import timm_backbone

        return timm_backbone.load(name, weights)
    raise OptionError(f"unknown backbone {name!r}: use one of {', '.join(NAMES)}")


def untrained_backbones(name: str, image_size: int) -> list[Backbone]:
    """Make the networks that a name can stand for, fused, in evaluation mode, without trained weights.

    It is one network, except for `inception_v3`: torchvision's and Keras' differ in their average pooling, which does
    not show in the weights.

    Args:
        name: one of NAMES.
        image_size: side of the input in pixels.

    Raises:
        OptionError: the name is unknown.
        MissingExtra: the backbone's package is not installed.
    """
    networks: list[Backbone]
    if name in efficientnet_lite.SIZES:
        networks = [efficientnet_lite.EfficientNetLite(name, image_size)]
    elif name == "inception_v3":
        from captionlens.features.backbones.inception_v3 import InceptionV3

        networks = [InceptionV3(count_include_pad=choice) for choice in (True, False)]
    elif name.startswith("timm:"):
        from captionlens.features.backbones import timm_backbone

        networks = [timm_backbone.build(name)]
    else:
        raise OptionError(f"unknown backbone {name!r}: use one of {', '.join(NAMES)}")
    return [network.fuse() for network in networks]
