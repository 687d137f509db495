"""Backbones from timm: any convolutional network or transformer whose features form a grid.

timm (Wightman, "PyTorch Image Models") is an optional extra. Its networks get the preprocessing of their training,
except that the whole photograph is resized to the square instead of cropped.
"""

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from captionlens.errors import CaptionlensError, MissingExtra, OptionError, WeightsError
from captionlens.features.backbones.base import Backbone, to_places
from captionlens.runtime.images import Preprocessing

PREFIX = "timm:"


class TimmBackbone(Backbone):
    """A network of timm's up to its last features.

    Args:
        name: `timm:NAME`.
        network: a network with timm's `forward_features`.
        preprocessing: of the network's input.

    Raises:
        OptionError: the network's features do not form a square grid.
    """

    def __init__(self, name: str, network: Any, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.name = name
        self.preprocessing = preprocessing
        self.network = network.eval()
        self.prefix_tokens = int(getattr(network, "num_prefix_tokens", 0))
        size = preprocessing.size
        with torch.no_grad():
            features = network.forward_features(torch.zeros(1, 3, size, size))
            if not isinstance(features, Tensor):
                raise OptionError(f"{name} gives no single grid of features")
            self.channels_last = _channels_last(name, features)
            places = self._places(features)  # (1, L, D)
        side = math.isqrt(places.shape[1])
        if side * side != places.shape[1]:
            raise OptionError(f"{name} gives {places.shape[1]} places for a square picture: not a square grid")
        self.grid = (side, side)
        self.channels = places.shape[2]

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, size, size) as grid features (B, L, D)."""
        return self._places(self.network.forward_features(images))

    def fuse(self) -> Backbone:
        """Leave the network as it is.

        In a foreign network the order of declaration does not tell which layer a batch normalisation follows, and some
        of timm's normalisations contain the activation too.
        """
        return self.eval()

    def _places(self, features: Tensor) -> Tensor:
        if features.ndim == 3:  # (B, prefix + L, D): class and register tokens come first
            return features[:, self.prefix_tokens :]
        return features.flatten(1, 2) if self.channels_last else to_places(features)


def load(name: str, weights: Path | None = None) -> TimmBackbone:
    """Load a network of timm's with its published weights, in evaluation mode.

    Args:
        name: `timm:NAME`, with timm's name of the model, such as `resnet50.a1_in1k`.
        weights: a `.safetensors` or `.pth` of that network; by default timm downloads its own.

    Raises:
        MissingExtra: timm is not installed.
        CaptionlensError: timm is installed but cannot be imported.
        OptionError: timm has no such network, or its features do not form a grid.
        WeightsError: the weights are missing, cannot be downloaded, or do not fit.
    """
    timm = _import_timm()
    known = name.removeprefix(PREFIX)
    published = _published(timm, name)
    return _backbone(timm, name, _create(timm, known, weights, published.hf_hub_id))


def build(name: str) -> TimmBackbone:
    """Make a network of timm's with random weights, in evaluation mode.

    Raises:
        MissingExtra, CaptionlensError, OptionError: see `load`.
    """
    timm = _import_timm()
    _published(timm, name)
    return _backbone(timm, name, timm.create_model(name.removeprefix(PREFIX), pretrained=False))


def _published(timm: ModuleType, name: str) -> Any:
    """timm's configuration of a network's published weights."""
    try:
        return timm.models.get_pretrained_cfg(name.removeprefix(PREFIX), allow_unregistered=False)
    except RuntimeError as error:
        raise OptionError(f"unknown backbone {name!r}: {_first_line(error)}") from error


def _backbone(timm: ModuleType, name: str, network: Any) -> TimmBackbone:
    network.reset_classifier(0)
    config = timm.data.resolve_model_data_config(network)
    return TimmBackbone(name, network, preprocessing_of(name, config)).eval()


def preprocessing_of(name: str, config: dict[str, Any]) -> Preprocessing:
    """Convert timm's data configuration; an interpolation other than bilinear becomes bicubic.

    Raises:
        OptionError: the network does not take square RGB pictures.
    """
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise OptionError(f"{name} takes pictures of shape {channels}x{height}x{width}, not square RGB ones")
    interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    (r, g, b), (sr, sg, sb) = config["mean"], config["std"]
    return Preprocessing(width, (r, g, b), (sr, sg, sb), interpolation)


def _create(timm: ModuleType, known: str, weights: Path | None, hub: str | None) -> Any:
    if weights is not None and not weights.is_file():
        raise WeightsError(weights, "no such file")
    overlay = None if weights is None else {"file": str(weights), "custom_load": False}
    try:
        # With its published classifier: only then does timm insist that every weight fits.
        return timm.create_model(known, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # timm, its hub client and torch raise many types
        if weights is not None:
            unsafe = "weights_only" in str(error)  # torch and timm then advise unsafe unpickling
            cause = "the file holds more than plain tensors" if unsafe else _first_line(error)
            raise WeightsError(weights, f"does not fit timm's {known} ({cause})") from error
        place = f"https://huggingface.co/{hub}{known if hub.endswith('/') else ''}" if hub else "timm's model hub"
        raise WeightsError(
            known,
            f"timm cannot load its weights ({_first_line(error)}). Fetch them from {place} by other means "
            "and name the file: --backbone-weights FILE",
        ) from error


def _import_timm() -> ModuleType:
    try:
        import timm
        import timm.data
        import timm.models
    except Exception as error:  # torchvision, which timm imports, raises RuntimeError with an incompatible torch
        if isinstance(error, ModuleNotFoundError) and error.name == "timm":
            raise MissingExtra("timm", "timm") from error
        raise CaptionlensError(
            f"timm is installed but cannot be imported: {type(error).__name__}: {_first_line(error)}"
        ) from error
    module: ModuleType = timm
    return module


def _channels_last(name: str, features: Tensor) -> bool:
    """Whether a square picture's features are (B, H, W, D), not (B, D, H, W)."""
    if features.ndim == 3:
        return False
    if features.ndim != 4:
        raise OptionError(f"{name} gives features of shape {tuple(features.shape)}, which are no grid")
    _, first, second, third = features.shape
    return first == second != third


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
