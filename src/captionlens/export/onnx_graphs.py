"""ONNX graphs of the networks, with all weights in one safetensors file, in half precision or eight bits.

Each weight becomes an external initializer that refers to its place in the file, followed by a Cast to float32, and
with eight bits by a Mul with its scale. ONNX Runtime folds these when it loads a graph. So the weights are on disk
once, and computation is in single precision.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxscript.optimizer
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from captionlens.errors import ModelError
from captionlens.export.weights import SCALE
from captionlens.features.backbones import Backbone
from captionlens.features.compiled import exported
from captionlens.files import write_bytes
from captionlens.network import CaptioningNetwork

_TYPES = {"F16": TensorProto.FLOAT16, "F32": TensorProto.FLOAT, "I8": TensorProto.INT8}  # safetensors to ONNX


class StartGraph(nn.Module):
    """`CaptioningNetwork.start` as a module with `forward`."""

    def __init__(self, network: CaptioningNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """See `CaptioningNetwork.start`."""
        return self.network.start(features)


class StepGraph(nn.Module):
    """`CaptioningNetwork.step` as a module with `forward`."""

    def __init__(self, network: CaptioningNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, memory: Tensor, keys: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `CaptioningNetwork.step`."""
        return self.network.step(tokens, memory, keys, *state)


class BackboneGraph(nn.Module):
    """A backbone inside a module, so that its weights are named `backbone.*`."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) as grid features (B, L, D)."""
        features: Tensor = self.backbone(images)
        return features


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int  # bytes from the start of the file
    length: int
    shape: tuple[int, ...]
    type: int  # of TensorProto


def export_graphs(network: CaptioningNetwork, backbone: Backbone, folder: Path, weights: Path) -> None:
    """Write `backbone.onnx`, `start.onnx` and `step.onnx` into `folder`.

    Args:
        network: in evaluation mode, with weights rounded as in `weights`.
        backbone: fused, in evaluation mode, with weights rounded as in `weights`.
        folder: of the graphs.
        weights: the safetensors file, in the parent of `folder`.
    """
    places = _places(weights)
    size = backbone.preprocessing.size
    config = network.config
    # Sizes of the examples, neither 0 nor 1, which the exporter would make constants.
    images = torch.zeros(2, 3, size, size)
    features = torch.zeros(2, config.places, config.channels)
    with torch.inference_mode():
        memory, keys, *state = network.start(features)
    examples = [torch.zeros(2, 3, config.units) for _ in state]
    states = [f"state_{index}" for index in range(len(state))]
    tokens = torch.ones(2, 3, dtype=torch.long)
    memory, keys = torch.zeros_like(memory), torch.zeros_like(keys)
    _export(BackboneGraph(backbone), (images,), ["images"], ["features"], folder, "backbone", places, weights.name)
    _export(
        StartGraph(network),
        (features,),
        ["features"],
        ["memory", "keys", *states],
        folder,
        "start",
        places,
        weights.name,
    )
    _export(
        StepGraph(network),
        (tokens, memory.clone(), keys.clone(), *examples),
        ["tokens", "memory", "keys", *states],
        ["log_probs", "attention", *(f"next_{name}" for name in states)],
        folder,
        "step",
        places,
        weights.name,
    )


def _export(
    module: nn.Module,
    examples: Sequence[Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
    folder: Path,
    name: str,
    places: dict[str, _Place],
    weights_name: str,
) -> None:
    photographs = torch.export.Dim("photographs")
    hypotheses = torch.export.Dim("hypotheses")
    shapes: list[Any] = [{0: photographs} for _ in inputs]
    if name == "step":
        # The number of places is dynamic, for attention restricted to a region.
        some = {0: photographs, 1: torch.export.Dim("places")}
        each = {0: photographs, 1: hypotheses}
        shapes = [each, some, some, tuple(each for _ in inputs[3:])]  # `forward` takes the states as *state
    program = exported(
        module.eval(),
        tuple(examples),
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=shapes,
        optimize=False,
    )
    graph = _fold(program.model_proto, places)
    _refer_to_weights(graph, places, f"../{weights_name}")
    graph.doc_string = ""
    for node in graph.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del graph.graph.value_info[:]
    del graph.graph.metadata_props[:]
    content = graph.SerializeToString()
    write_bytes(folder / f"{name}.onnx", content)


def _fold(model: onnx.ModelProto, places: dict[str, _Place]) -> onnx.ModelProto:
    """Simplify a graph but not its weights: a folded weight would be stored a second time, in the graph."""
    weights = [tensor for tensor in model.graph.initializer if tensor.name in places]
    others = [tensor for tensor in model.graph.initializer if tensor.name not in places]
    inputs = list(model.graph.input)
    # During folding the weights are inputs with unknown values.
    del model.graph.initializer[:]
    model.graph.initializer.extend(others)
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in weights
    )
    graph: onnx.ModelProto = onnxscript.optimizer.optimize(model)
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    graph.graph.initializer.extend(weights)
    return graph


def _refer_to_weights(model: onnx.ModelProto, places: dict[str, _Place], location: str) -> None:
    """Replace initializers that are in the weights file by references to it, cast to float32."""
    unpacking = []
    kept = []
    for tensor in model.graph.initializer:
        place = places.get(tensor.name)
        if place is None:
            kept.append(tensor)
            continue
        if tuple(tensor.dims) != place.shape:
            raise ModelError(location, f"holds {tensor.name} as {place.shape}, the graph wants {tuple(tensor.dims)}")
        packed, scale = f"{tensor.name}.packed", f"{tensor.name}{SCALE}"
        kept.append(_external(packed, place, location))
        if scale in places:
            whole = f"{tensor.name}.whole"
            kept.append(_external(scale, places[scale], location))
            unpacking.append(helper.make_node("Cast", [packed], [whole], to=TensorProto.FLOAT))
            unpacking.append(helper.make_node("Mul", [whole, scale], [tensor.name]))
        else:
            unpacking.append(helper.make_node("Cast", [packed], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*unpacking, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)


def _external(name: str, place: _Place, location: str) -> TensorProto:
    """Make an external initializer that refers to the weights file."""
    tensor = TensorProto(name=name, data_type=place.type, dims=place.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", place.offset), ("length", place.length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _places(path: Path) -> dict[str, _Place]:
    """Place of each tensor in a safetensors file: 8 bytes of header length, the header in JSON, the data."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    places = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            places[name] = _Place(8 + length + begin, end - begin, tuple(entry["shape"]), _TYPES[entry["dtype"]])
    return places
