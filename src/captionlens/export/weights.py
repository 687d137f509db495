"""How a model directory keeps its weights: in half precision, or matrices and kernels in eight bits.

In eight bits a row of a matrix, or a kernel of a convolution, is kept as whole numbers from -127 to 127 and one scale
in single precision: the largest of the row divided by 127 (symmetric quantisation, one scale a channel; Krishnamoorthi,
"Quantizing deep convolutional networks for efficient inference", arXiv:1806.08342, section 3.1). What has less than
SMALLEST numbers, and every vector, stays in half precision.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from captionlens.errors import OptionError

KINDS = ("half", "int8")
SCALE = ".scale"  # what the names of scales end with
SMALLEST = 4096
_HIGHEST = 127


def store(modules: Mapping[str, nn.Module], kind: str) -> dict[str, Tensor]:
    """What a weights file holds of modules, whose weights are rounded in place to just that.

    Args:
        modules: by the first part of their weights' names.
        kind: of KINDS.

    Returns:
        float16 tensors by name; with `int8`, int8 tensors with their scale, float32, beside them: `NAME.scale`, of a
        shape that broadcasts.

    Raises:
        OptionError: the kind is not known.
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
    """Give modules the weights of a file, as `store` made them.

    Raises:
        KeyError: the file lacks one.
        ValueError: one has another shape.
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
    """Whole numbers of a byte, and what they are multiplied by: (C, 1, ...)."""
    rows = weight.flatten(1).abs().amax(1).reshape(-1, *(1,) * (weight.ndim - 1))
    scale = torch.where(rows > 0, rows / _HIGHEST, 1.0).float()  # a row of zeros has none
    return (weight / scale).round().clamp(-_HIGHEST, _HIGHEST).to(torch.int8), scale
