"""Stored precision of a model's weights: half precision, or eight bits for matrices and kernels.

In eight bits a row of a matrix, or a kernel of a convolution, is stored as integers from -127 to 127 and one scale in
single precision, the row's largest magnitude divided by 127. This is symmetric quantisation with one scale per channel
(Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", arXiv:1806.08342, section 3.1).
Vectors, and tensors of less than SMALLEST numbers, stay in half precision.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from captionlens.errors import OptionError

KINDS = ("half", "int8")
SCALE = ".scale"  # suffix of the names of scales
SMALLEST = 4096
_HIGHEST = 127


def store(modules: Mapping[str, nn.Module], kind: str) -> dict[str, Tensor]:
    """Make the tensors of a weights file, and round the modules' weights in place to the same values.

    Args:
        modules: by the prefix of their weights' names.
        kind: one of KINDS.

    Returns:
        float16 tensors by name; with `int8`, int8 tensors, and beside each its float32 scale `NAME.scale`, of a
        shape that broadcasts.

    Raises:
        OptionError: the kind is unknown.
    """
    if kind not in KINDS:
        raise OptionError(f"weights must be {' or '.join(KINDS)}, got {kind!r}")
    kept: dict[str, Tensor] = {}
    for name, weight in _weights(modules):
        if kind == "int8" and weight.ndim > 1 and weight.numel() >= SMALLEST:
            kept[name], kept[name + SCALE] = _in_eight_bits(weight)
        else:
            kept[name] = weight.half().contiguous()
    fill(modules, kept)
    return kept


def fill(modules: Mapping[str, nn.Module], kept: Mapping[str, Tensor]) -> None:
    """Load the tensors of a weights file, made by `store`, into modules.

    Raises:
        KeyError: the file lacks a weight.
        ValueError: a weight has another shape.
    """
    with torch.no_grad():
        for name, weight in _weights(modules):
            values = kept[name].float()
            if values.shape != weight.shape:
                raise ValueError(f"{name} is {tuple(values.shape)}, not {tuple(weight.shape)}")
            scale = kept.get(name + SCALE)
            weight.copy_(values if scale is None else values * scale)


def _weights(modules: Mapping[str, nn.Module]) -> Iterable[tuple[str, Tensor]]:
    for prefix, module in modules.items():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                yield f"{prefix}.{name}", tensor


def _in_eight_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise a weight to int8 with scales (C, 1, ...)."""
    rows = weight.flatten(1).abs().amax(1).reshape(-1, *(1,) * (weight.ndim - 1))
    scale = torch.where(rows > 0, rows / _HIGHEST, 1.0).float()  # 1 for a row of zeros
    return (weight / scale).round().clamp(-_HIGHEST, _HIGHEST).to(torch.int8), scale
