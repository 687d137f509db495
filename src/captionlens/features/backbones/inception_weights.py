"""Reader of InceptionV3's ImageNet weights as published by torchvision, Keras or timm.

The weights become plain tensors under torchvision's names.

- torchvision: `inception_v3_google-0cc3c7bd.pth`, a PyTorch state dict.
- Keras: `inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5`, the HDF5 form of Keras 2, and what
  `save_weights` of Keras 3 writes (`.weights.h5`).
- timm: `model.safetensors` of the inception_v3 models on the Hugging Face hub, under torchvision's names.

The form is recognised by the content of the file, not by its name. Nothing but tensors is unpickled.
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.errors import WeightsError

Array = NDArray[np.float32]

_WHOLE_MODEL = (
    "is a whole model saved by Keras, not its weights alone: open it with keras.models.load_model and save them "
    'with model.save_weights("inception.weights.h5")'
)

# Keras lists (and loads) layers by their distance from the output, farthest first, and those of the same distance in
# order of creation. So the branches of a mixed layer interleave.
_BLOCK_35 = (
    *("branch3x3dbl_1", "branch5x5_1", "branch3x3dbl_2"),
    *("branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool"),
)
_REDUCE_35 = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3", "branch3x3dbl_3")
_BLOCK_17 = (
    *("branch7x7dbl_1", "branch7x7dbl_2", "branch7x7_1", "branch7x7dbl_3", "branch7x7_2", "branch7x7dbl_4"),
    *("branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"),
)
_REDUCE_17 = (
    *("branch7x7x3_1", "branch7x7x3_2", "branch3x3_1"),
    *("branch7x7x3_3", "branch3x3_2", "branch7x7x3_4"),
)
_BLOCK_8 = (
    *("branch3x3dbl_1", "branch3x3_1", "branch3x3dbl_2", "branch3x3_2a", "branch3x3_2b"),
    *("branch3x3dbl_3a", "branch3x3dbl_3b", "branch1x1", "branch_pool"),
)
_BLOCKS = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _BLOCK_35),
    "Mixed_6a": _REDUCE_35,
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _BLOCK_17),
    "Mixed_7a": _REDUCE_17,
    **dict.fromkeys(("Mixed_7b", "Mixed_7c"), _BLOCK_8),
}
KERAS_ORDER = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *(f"{block}.{branch}" for block, branches in _BLOCKS.items() for branch in branches),
)


@dataclass(frozen=True, slots=True)
class InceptionWeights:
    """Published weights: float32 tensors by torchvision's names, not yet checked against the network."""

    tensors: dict[str, Tensor]
    count_include_pad: bool  # whether their publisher's 3x3 average pooling counts the padding


def read(path: Path) -> InceptionWeights:
    """Read a file of any of the published forms.

    Raises:
        WeightsError: the file cannot be read, or its form is unknown.
    """
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightsError(path, error.strerror or str(error)) from error
    if _is_whole_keras_model(path):
        raise WeightsError(path, _WHOLE_MODEL)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return InceptionWeights(_read_keras(path), count_include_pad=False)
    if head.startswith((b"PK\x03\x04", b"\x80\x02")):  # zip, or the pickle of torch before 1.6
        return InceptionWeights(_read_pth(path), count_include_pad=True)
    if head[8:9] == b"{":  # a length, then the JSON header
        return InceptionWeights(_read_safetensors(path), count_include_pad=True)
    raise WeightsError(path, "is neither PyTorch's .pth, Keras' .h5 nor a .safetensors file")


def _is_whole_keras_model(path: Path) -> bool:
    """Whether a file holds architecture and weights together: Keras' `.keras`, a zip, or the `.h5` of its `save`."""
    if h5py.is_hdf5(path):
        try:
            with h5py.File(path, "r") as file:
                return "model_config" in file.attrs or "model_weights" in file
        except OSError:  # damaged: reported when its weights are read
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {"config.json", "model.weights.h5"} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types, with advice to unpickle anything
        raise WeightsError(path, f"is no PyTorch state dict of plain tensors ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(path, "is no PyTorch state dict: want names and tensors")
    return {str(name): tensor.float() for name, tensor in state.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise WeightsError(path, f"is no whole .safetensors file ({error})") from error
    return {name: tensor.float() for name, tensor in state.items()}


def _read_keras(path: Path) -> dict[str, Tensor]:
    try:
        with h5py.File(path, "r") as file:
            layers = list(_keras_3_layers(file) if "layers" in file else _keras_2_layers(file))
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(path, f"is no whole file of Keras weights ({error})") from error
    kernels = [layer["kernel"] for layer in layers if "kernel" in layer and layer["kernel"].ndim == 4]
    norms = [layer for layer in layers if "moving_mean" in layer]
    if len(kernels) != len(KERAS_ORDER) or len(norms) != len(KERAS_ORDER):
        raise WeightsError(
            path,
            f"is not of inception_v3: {len(kernels)} convolutions and {len(norms)} batch normalisations, "
            f"not {len(KERAS_ORDER)} of each",
        )
    tensors: dict[str, Tensor] = {}
    for name, kernel, norm in zip(KERAS_ORDER, kernels, norms, strict=True):
        weights = {
            "conv.weight": kernel.transpose(3, 2, 0, 1),  # (H, W, C, C') to (C', C, H, W)
            "bn.weight": norm.get("gamma", np.ones_like(norm["beta"])),  # Keras' network has no gamma
            "bn.bias": norm["beta"],
            "bn.running_mean": norm["moving_mean"],
            "bn.running_var": norm["moving_variance"],
        }
        tensors |= {f"{name}.{key}": torch.tensor(np.ascontiguousarray(value)) for key, value in weights.items()}
    return tensors


def _keras_2_layers(file: h5py.File) -> Iterator[dict[str, Array]]:
    """Yield each layer's weights by their last name (`kernel`, `beta` ...), in the file's order of layers."""
    for layer in _names(file.attrs, "layer_names"):
        names = _names(file[layer].attrs, "weight_names")  # such as conv2d_1/kernel:0
        yield {name.rpartition("/")[2].partition(":")[0]: _array(file[layer][name]) for name in names}


def _names(attributes: Any, key: str) -> list[str]:
    """Read a list of names; one too long for an HDF5 attribute is split into `key0`, `key1` ..."""
    if key in attributes:
        parts = [attributes[key]]
    else:
        chunks = [name for name in attributes if re.fullmatch(rf"{key}\d+", name)]
        parts = [attributes[name] for name in sorted(chunks, key=_number)]
        if not parts:
            raise KeyError(f"no {key}")
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]


def _keras_3_layers(file: h5py.File) -> Iterator[dict[str, Array]]:
    """Yield the same as `_keras_2_layers`; here layers are numbered by kind in the model's order, weights unnamed."""
    kinds = {
        "conv2d": ("kernel",),
        "batch_normalization": ("beta", "moving_mean", "moving_variance"),
    }
    for kind, roles in kinds.items():
        groups = [name for name in file["layers"] if re.fullmatch(rf"{kind}(_\d+)?", name)]
        for group in sorted(groups, key=_number):
            variables = file["layers"][group]["vars"]
            if len(variables) != len(roles):
                raise ValueError(f"layer {group} has {len(variables)} weights, not {len(roles)}")
            yield {role: _array(variables[str(index)]) for index, role in enumerate(roles)}


def _number(name: str) -> int:
    """Number at the end of a name; the first of its kind has none and counts as 0."""
    digits = re.search(r"\d+$", name)
    return int(digits.group()) if digits else 0


def _array(dataset: Any) -> Array:
    return np.asarray(dataset, dtype=np.float32)
