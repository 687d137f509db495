"""InceptionV3 up to its last mixed layer, with torchvision's, Keras' or timm's weights.

Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision",
CVPR 2016. Parameter and buffer names are those of torchvision's published weights, so that these
load strictly.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captionlens.errors import WeightsError
from captionlens.features.backbones import inception_weights
from captionlens.features.backbones.base import Backbone, clamps_within, convolve_and_clamp, to_places
from captionlens.features.backbones.weights_cache import cached_weights
from captionlens.runtime.images import Preprocessing

WEIGHTS_URL = "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth"
WEIGHTS_SHA256 = "0cc3c7bd"  # the first digits, as in the file's name
_EPSILON = 1e-3
_COUNTER = ".num_batches_tracked"  # counts training steps; no output depends on it and older files lack it


class NormalisedConv2d(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W) to (B, C', H', W')."""
        if clamps_within(self.bn, x):
            assert not isinstance(self.conv.padding, str)
            return convolve_and_clamp(self.conv, x, self.conv.padding)
        return F.relu(self.bn(self.conv(x)))


def _row(channels_in: int, channels_out: int, length: int) -> NormalisedConv2d:
    """A convolution one place high and `length` places wide, which keeps the size."""
    return NormalisedConv2d(channels_in, channels_out, (1, length), padding=(0, length // 2))


def _column(channels_in: int, channels_out: int, length: int) -> NormalisedConv2d:
    """A convolution `length` places high and one place wide, which keeps the size."""
    return NormalisedConv2d(channels_in, channels_out, (length, 1), padding=(length // 2, 0))


def _halve(x: Tensor) -> Tensor:
    """Max-pool 3x3 with stride 2."""
    return F.max_pool2d(x, 3, stride=2)


class _PoolingBlock(nn.Module):
    """Base of the size-preserving blocks: a branch with 3x3 average pooling.

    At the border a window extends beyond the picture. With `count_include_pad` the padding counts as zeros (the average
    of a corner is a sum of 4 divided by 9); without, it is left out (divided by 4).
    """

    def __init__(self, count_include_pad: bool) -> None:
        super().__init__()
        self.count_include_pad = count_include_pad

    def _average(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=self.count_include_pad)


class Block35(_PoolingBlock):
    """Mixed layer at 35x35 places (figure 5 of the paper, with a 5x5 kernel): C channels to 224 + `pooled`."""

    def __init__(self, channels: int, pooled: int, count_include_pad: bool) -> None:
        super().__init__(count_include_pad)
        self.branch1x1 = NormalisedConv2d(channels, 64, 1)
        self.branch5x5_1 = NormalisedConv2d(channels, 48, 1)
        self.branch5x5_2 = NormalisedConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = NormalisedConv2d(channels, 64, 1)
        self.branch3x3dbl_2 = NormalisedConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = NormalisedConv2d(96, 96, 3, padding=1)
        self.branch_pool = NormalisedConv2d(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 224 + pooled, H, W)."""
        point = self.branch1x1(x)
        wide = self.branch5x5_2(self.branch5x5_1(x))
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([point, wide, twice, self.branch_pool(self._average(x))], 1)


class Reduce35(nn.Module):
    """Reduction from 35x35 to 17x17 places (figure 10): C channels to 480 + C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = NormalisedConv2d(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = NormalisedConv2d(channels, 64, 1)
        self.branch3x3dbl_2 = NormalisedConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = NormalisedConv2d(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 480 + C, (H - 1) // 2, (W - 1) // 2)."""
        once = self.branch3x3(x)
        twice = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([once, twice, _halve(x)], 1)


class Block17(_PoolingBlock):
    """Mixed layer at 17x17 places, with 7x7 factorised into rows and columns (figure 6): 768 channels to 768."""

    def __init__(self, inner: int, count_include_pad: bool) -> None:
        super().__init__(count_include_pad)
        self.branch1x1 = NormalisedConv2d(768, 192, 1)
        self.branch7x7_1 = NormalisedConv2d(768, inner, 1)
        self.branch7x7_2 = _row(inner, inner, 7)
        self.branch7x7_3 = _column(inner, 192, 7)
        self.branch7x7dbl_1 = NormalisedConv2d(768, inner, 1)
        self.branch7x7dbl_2 = _column(inner, inner, 7)
        self.branch7x7dbl_3 = _row(inner, inner, 7)
        self.branch7x7dbl_4 = _column(inner, inner, 7)
        self.branch7x7dbl_5 = _row(inner, 192, 7)
        self.branch_pool = NormalisedConv2d(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 768, H, W) to (B, 768, H, W)."""
        point = self.branch1x1(x)
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([point, once, twice, self.branch_pool(self._average(x))], 1)


class Reduce17(nn.Module):
    """Reduction from 17x17 to 8x8 places: 768 channels to 1280."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = NormalisedConv2d(768, 192, 1)
        self.branch3x3_2 = NormalisedConv2d(192, 320, 3, stride=2)
        self.branch7x7x3_1 = NormalisedConv2d(768, 192, 1)
        self.branch7x7x3_2 = _row(192, 192, 7)
        self.branch7x7x3_3 = _column(192, 192, 7)
        self.branch7x7x3_4 = NormalisedConv2d(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 768, H, W) to (B, 1280, (H - 1) // 2, (W - 1) // 2)."""
        small = self.branch3x3_2(self.branch3x3_1(x))
        large = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([small, self.branch7x7x3_4(large), _halve(x)], 1)


class Block8(_PoolingBlock):
    """Mixed layer at 8x8 places, rows and columns side by side (figure 7): C channels to 2048."""

    def __init__(self, channels: int, count_include_pad: bool) -> None:
        super().__init__(count_include_pad)
        self.branch1x1 = NormalisedConv2d(channels, 320, 1)
        self.branch3x3_1 = NormalisedConv2d(channels, 384, 1)
        self.branch3x3_2a = _row(384, 384, 3)
        self.branch3x3_2b = _column(384, 384, 3)
        self.branch3x3dbl_1 = NormalisedConv2d(channels, 448, 1)
        self.branch3x3dbl_2 = NormalisedConv2d(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _row(384, 384, 3)
        self.branch3x3dbl_3b = _column(384, 384, 3)
        self.branch_pool = NormalisedConv2d(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 2048, H, W)."""
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(once),
            self.branch3x3_2b(once),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(self._average(x)),
        ]
        return torch.cat(branches, 1)


class InceptionV3(Backbone):
    """The network up to its last mixed layer: 8x8 places of 2048 channels from 299x299 pixels in [-1, 1].

    Args:
        count_include_pad: whether the 3x3 average pooling counts the padding as zeros. Keras and the original
            TensorFlow network leave it out; torchvision and timm count it. `load` chooses the variant of the weights'
            publisher.
    """

    def __init__(self, *, count_include_pad: bool) -> None:
        super().__init__()
        self.name = "inception_v3"
        self.preprocessing = Preprocessing(299, (0.5,) * 3, (0.5,) * 3, "bilinear")
        self.grid = (8, 8)
        self.channels = 2048
        self.count_include_pad = count_include_pad
        self.Conv2d_1a_3x3 = NormalisedConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = NormalisedConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = NormalisedConv2d(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = NormalisedConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = NormalisedConv2d(80, 192, 3)
        self.Mixed_5b = Block35(192, 32, count_include_pad)
        self.Mixed_5c = Block35(256, 64, count_include_pad)
        self.Mixed_5d = Block35(288, 64, count_include_pad)
        self.Mixed_6a = Reduce35(288)
        self.Mixed_6b = Block17(128, count_include_pad)
        self.Mixed_6c = Block17(160, count_include_pad)
        self.Mixed_6d = Block17(160, count_include_pad)
        self.Mixed_6e = Block17(192, count_include_pad)
        self.Mixed_7a = Reduce17()
        self.Mixed_7b = Block8(1280, count_include_pad)
        self.Mixed_7c = Block8(2048, count_include_pad)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, 299, 299) in [-1, 1] as grid features (B, 64, 2048)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))  # (B, 64, 147, 147)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halve(x)))  # (B, 192, 71, 71)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(_halve(x))))  # (B, 288, 35, 35)
        x = self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))  # (B, 768, 17, 17)
        x = self.Mixed_6e(self.Mixed_6d(x))  # (B, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        return to_places(x)

    def fingerprint(self) -> str:
        """SHA-256 as of every backbone, over the variant of average pooling too, which changes the features."""
        return hashlib.sha256(f"{super().fingerprint()} {self.count_include_pad}".encode()).hexdigest()


def load(weights: Path | None = None) -> InceptionV3:
    """Load the backbone with ImageNet weights, in evaluation mode.

    Args:
        weights: torchvision's `.pth`, Keras' `.h5` or timm's `.safetensors`; by default torchvision's, downloaded at
            the first use and cached.

    Raises:
        WeightsError: the file is missing, cannot be downloaded, or does not fit the network.
    """
    path = weights or cached_weights(WEIGHTS_URL.rpartition("/")[2], WEIGHTS_URL, WEIGHTS_SHA256)
    published = inception_weights.read(path)
    network = InceptionV3(count_include_pad=published.count_include_pad)
    _fill(network, published.tensors, path)
    return network.eval()


def _fill(network: InceptionV3, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load `tensors` into the network strictly: every weight with its shape, and nothing else.

    The two classifiers, `AuxLogits` and `fc`, are ignored.

    Raises:
        WeightsError: a weight is missing, unknown or of another shape.
    """
    own = network.state_dict()
    wanted = {name: tensor for name, tensor in own.items() if not name.endswith(_COUNTER)}
    found = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith(("AuxLogits.", "fc.")) and not name.endswith(_COUNTER)
    }
    shapes = [
        f"{name} {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": shapes,
    }
    causes = [f"{len(names)} {fault} ({_first(names)})" for fault, names in faults.items() if names]
    if causes:
        raise WeightsError(path, f"is not of inception_v3; weights {', '.join(causes)}")
    network.load_state_dict({**own, **found})


def _first(names: list[str]) -> str:
    return "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "")
