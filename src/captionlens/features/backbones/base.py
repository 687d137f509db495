"""What every backbone offers: grid features of photographs, and how it wants its pictures."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captionlens.errors import OptionError
from captionlens.runtime.images import Preprocessing


class Backbone(nn.Module):
    """A network trained on ImageNet, cut before its pooling: a photograph becomes a grid of features.

    `forward` takes images (B, 3, H, W), normalised as `preprocessing` says, and returns the grid
    (B, L, D): L = rows * columns places, row by row from the top left, D channels each.
    """

    name: str
    preprocessing: Preprocessing
    grid: tuple[int, int]  # rows, columns
    channels: int

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to grid features (B, L, D)."""
        raise TypeError(f"{type(self).__name__} has no forward")

    def split(self, blocks: int) -> tuple["Backbone", "Tail"]:
        """The network in two parts that share its weights: its last `blocks` blocks, and all before them.

        Raises:
            OptionError: this backbone cannot be split, or has not as many blocks.
        """
        raise OptionError(f"{self.name} cannot be fine-tuned: use one of the EfficientNet-Lite backbones")

    def fingerprint(self) -> str:
        """SHA-256 over name, preprocessing and every weight: two backbones that differ never share a store.

        Taken over the weights as loaded, so call it before `fuse`.
        """
        digest = hashlib.sha256(f"{self.name} {sorted(self.preprocessing.to_dict().items())}".encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def fuse(self) -> "Backbone":
        """Fold every batch normalisation into the convolution before it, for inference. Returns itself.

        Arithmetic stays the same up to rounding: y = (w x - mean) * gamma / sqrt(var + eps) + beta is linear in x.
        """
        self.eval()
        for parent, conv_name, norm_name in list(_normalised_convolutions(self)):
            convolution, norm = getattr(parent, conv_name), getattr(parent, norm_name)
            setattr(parent, conv_name, fuse_conv_bn_eval(convolution, norm))
            setattr(parent, norm_name, nn.Identity())
        return self


class Tail(nn.Module):
    """The last blocks of a backbone, to be trained further. Its weights have the names that they have there.

    `forward` takes the places of the part before (B, L', D') and returns grid features (B, L, D).
    """

    def train(self, mode: bool = True) -> "Tail":
        """Stay in evaluation mode: batches are too small for statistics of their own."""
        super().train(False)
        return self


def _normalised_convolutions(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Pairs of a convolution and the batch normalisation declared right after it in the same module."""
    for parent in network.modules():
        for (name, child), (next_name, next_child) in pairwise(parent.named_children()):
            if isinstance(child, nn.Conv2d) and isinstance(next_child, nn.BatchNorm2d):
                yield parent, name, next_name


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def clamps_within(norm: nn.Module, input: Tensor) -> bool:
    """Whether `convolve_and_clamp` may stand for a convolution of `input`, `norm` and a ReLU.

    It may where the normalisation was folded away (`Backbone.fuse`), in inference mode, on a processor, in single
    precision, or in bfloat16 if the processor has it. The operation is the one that PyTorch's own compiler makes of the
    two. That it stays is not promised, so its absence only costs time.
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
    """A convolution, with another weight if that is given, and a ReLU, up to `highest` if that is given.

    Without a second pass over the result.
    """
    clamp = ("relu", []) if highest is None else ("hardtanh", [0.0, highest])
    if weight is None:
        weight = convolution.weight
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        input, weight, convolution.bias, padding, convolution.stride, convolution.dilation,
        convolution.groups, *clamp, "",
    )  # fmt: skip
    return result


def to_places(grid: Tensor) -> Tensor:
    """A convolution's output (B, D, rows, columns) as places (B, rows * columns, D), row by row."""
    return grid.flatten(2).transpose(1, 2)
