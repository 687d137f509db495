"""Check of an export: ONNX Runtime must give the same results as the torch network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionlens.errors import ModelError, UnreadableImage
from captionlens.export.torch_network import TorchNetwork
from captionlens.features.backbones import Backbone
from captionlens.network import CaptioningNetwork
from captionlens.runtime.decoding import DecodingOptions, Network, decode
from captionlens.runtime.model_directory import ModelDirectory
from captionlens.runtime.onnx_network import OnnxNetwork
from captionlens.runtime.teacher_forcing import teacher_force
from captionlens.runtime.vocabulary import PAD, START

TOLERANCE = 1e-4  # of log-probabilities and attention, torch against ONNX Runtime


def check_export(
    network: CaptioningNetwork,
    backbone: Backbone,
    model: Path,
    decoding: DecodingOptions,
    examples: Sequence[Path] = (),
) -> None:
    """Compare the torch network with ONNX Runtime on photographs, at a batch size that was not exported.

    Raises:
        ModelError: features, log-probabilities, attention or captions differ.
    """
    directory = ModelDirectory.open(model)
    torch_side: Network = TorchNetwork(network, backbone)
    onnx_side: Network = OnnxNetwork(directory)
    images = _example_images(backbone, examples)  # (B, 3, H, W)
    features = torch_side.encode(images)
    _compare(model, "features", features.numpy(), onnx_side.encode(images), scale=float(features.abs().max()))
    ours = decode(torch_side, features, decoding)
    theirs = decode(onnx_side, features.numpy(), decoding)
    longest = max(len(hypothesis.tokens) for hypothesis in ours)
    tokens = np.full((len(images), 1, longest + 1), PAD, np.int64)
    for row, hypothesis in enumerate(ours):
        tokens[row, 0, : len(hypothesis.tokens) + 1] = (START, *hypothesis.tokens)
    for (log_probs, attention), (other_log_probs, other_attention) in zip(
        teacher_force(torch_side, features, tokens), teacher_force(onnx_side, features.numpy(), tokens), strict=True
    ):
        _compare(model, "log-probabilities", log_probs, other_log_probs)
        _compare(model, "attention", attention, other_attention)
    if [hypothesis.tokens for hypothesis in ours] != [hypothesis.tokens for hypothesis in theirs]:
        raise ModelError(model, "writes other captions than the network it was exported from")


def _compare(
    model: Path, what: str, ours: NDArray[np.float32], theirs: NDArray[np.float32], scale: float = 1.0
) -> None:
    difference = float(np.abs(ours - theirs).max()) / max(scale, 1.0)
    if not difference <= TOLERANCE:
        raise ModelError(model, f"{what} differ from torch's by {difference:.1e}, more than {TOLERANCE:.0e}")


def _example_images(backbone: Backbone, examples: Sequence[Path]) -> NDArray[np.float32]:
    """Make a batch of 3 to 5 images: the graphs were traced with 2."""
    pixels = []
    for path in examples[:5]:
        try:
            pixels.append(backbone.preprocessing.read(path))
        except UnreadableImage:
            continue
    size = backbone.preprocessing.size
    random = np.random.default_rng(0)
    while len(pixels) < 3:
        coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
        picture = np.kron(coarse, np.ones((size // 8 + 1, size // 8 + 1, 1), np.uint8))
        pixels.append(picture[:size, :size])
    return backbone.preprocessing.normalise(np.stack(pixels))
