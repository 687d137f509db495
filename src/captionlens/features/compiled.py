"""Backbones compiled by ONNX Runtime, for processors on which it is faster than PyTorch."""

import copy
import logging
import warnings
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captionlens.features.backbones.base import Backbone
from captionlens.features.store import LARGEST

_OPSET = 20


def compiling_pays() -> bool:
    """Whether ONNX Runtime is the faster one in single precision here: docs/performance.md, "Extraction"."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


class CompiledBackbone:
    """A backbone on the processor, in single precision, compiled when it is made: about ten seconds.

    Args:
        backbone: as loaded; it is not changed.

    Raises:
        Exception: PyTorch cannot export the backbone, or ONNX Runtime not load it.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.preprocessing = backbone.preprocessing
        network = copy.deepcopy(backbone).fuse().float().cpu()
        size = self.preprocessing.size
        example = torch.zeros(2, 3, size, size)
        shapes = ({0: torch.export.Dim("photographs")},)
        program = exported(network, (example,), input_names=["images"], dynamic_shapes=shapes)
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # The threads that read photographs have turns of their own.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        content = program.model_proto.SerializeToString()
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Encode photographs (B, H, W, 3), see `Preprocessing.read`, as grids (B, L, D)."""
        images = self.preprocessing.normalise(pixels)
        # One by one: a layer's output for one is still in the cache for the next layer.
        grids = [self._session.run(None, {"images": images[place : place + 1]})[0] for place in range(len(images))]
        halves: NDArray[np.float16] = np.concatenate(grids).clip(-LARGEST, LARGEST).astype(np.float16)
        return halves


def exported(module: nn.Module, examples: tuple[Tensor, ...], **options: Any) -> torch.onnx.ONNXProgram:
    """Export a module as an ONNX graph of opset 20, without what torch's exporter says of itself.

    Args:
        module: in evaluation mode.
        examples: of its inputs.
        options: of `torch.onnx.export`.

    Raises:
        Exception: PyTorch cannot export it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of torch's exporter about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision's operators are not needed
        program = torch.onnx.export(module, examples, dynamo=True, opset_version=_OPSET, verbose=False, **options)
    assert program is not None
    return program
