"""Base classes of backbones: grid features, preprocessing, fusion for inference, and splitting for fine-tuning."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captionlens.errors import OptionError
from captionlens.runtime.images import Preprocessing


class Backbone(nn.Module):
    """A network pretrained on ImageNet, without its pooling and classifier.

    `forward` takes images (B, 3, H, W), normalised by `preprocessing`, and returns the grid features (B, L, D):
    L = rows * columns places in row-major order from the top left, with D channels each.
    """

    name: str
    preprocessing: Preprocessing
    grid: tuple[int, int]  # rows, columns
    channels: int

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) as grid features (B, L, D)."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def split(self, blocks: int) -> tuple["Backbone", "Tail"]:
        """Split the network into two parts that share its weights: the last `blocks` blocks, and all before them.

        Raises:
            OptionError: this backbone cannot be split, or has fewer blocks.
        """
        raise OptionError(f"{self.name} cannot be fine-tuned: use one of the EfficientNet-Lite backbones")

    def fingerprint(self) -> str:
        """SHA-256 over name, preprocessing and every weight, so that different backbones never share a store.

        It is that of the weights as loaded, so call it before `fuse`.
        """
        digest = hashlib.sha256(f"{self.name} {sorted(self.preprocessing.to_dict().items())}".encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def fuse(self) -> "Backbone":
        """Fold every batch normalisation into the convolution before it, for inference; return the backbone.

        The result is the same up to rounding: y = (w x - mean) * gamma / sqrt(var + eps) + beta is linear in x.
        """
        self.eval()
        for parent, conv_name, norm_name in list(_normalised_convolutions(self)):
            convolution, norm = getattr(parent, conv_name), getattr(parent, norm_name)
            setattr(parent, conv_name, fuse_conv_bn_eval(convolution, norm))
            setattr(parent, norm_name, nn.Identity())
        return self


class Tail(nn.Module):
    """The last blocks of a backbone, for fine-tuning. Its weights keep the names they have in the backbone.

    `forward` takes the output of the first part (B, L', D') and returns grid features (B, L, D).
    """

    def train(self, mode: bool = True) -> "Tail":
        """Stay in evaluation mode: batches are too small for batch statistics."""
        super().train(False)
        return self


def _normalised_convolutions(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield pairs of a convolution and the batch normalisation declared right after it in the same module."""
    for parent in network.modules():
        for (name, child), (next_name, next_child) in pairwise(parent.named_children()):
            if isinstance(child, nn.Conv2d) and isinstance(next_child, nn.BatchNorm2d):
                yield parent, name, next_name


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def clamps_within(norm: nn.Module, input: Tensor) -> bool:
    """Whether `convolve_and_clamp` can replace a convolution of `input`, `norm` and a ReLU.

    It can if the normalisation is folded (`Backbone.fuse`), in inference mode, on a processor, in single precision, or
    in bfloat16 if the processor has it. The operation is the one that PyTorch's compiler generates. It is not part of
    the public interface; without it, inference is only slower.
    """
    return (
        isinstance(norm, nn.Identity)
        and (input.dtype == torch.float32 or (input.dtype == torch.bfloat16 and has_fast_bfloat16()))
        and input.device.type == "cpu"
        and torch.is_inference_mode_enabled()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )


def convolve_and_clamp(
    convolution: nn.Conv2d,
    input: Tensor,
    padding: Sequence[int],
    highest: float | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Apply a convolution (optionally with another weight) and a ReLU (optionally clamped to `highest`) in one pass."""
    clamp = ("relu", []) if highest is None else ("hardtanh", [0.0, highest])
    if weight is None:
        weight = convolution.weight
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        input, weight, convolution.bias, padding, convolution.stride, convolution.dilation,
        convolution.groups, *clamp, "",
    )  # fmt: skip
    return result


def to_places(grid: Tensor) -> Tensor:
    """Flatten a feature map (B, D, rows, columns) to places (B, rows * columns, D), in row-major order."""
    return grid.flatten(2).transpose(1, 2)
