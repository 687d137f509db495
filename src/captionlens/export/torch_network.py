"""The torch network as an implementation of `runtime.decoding.Network`, for validation and checks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.features.backbones import Backbone
from captionlens.network import CaptioningNetwork
from captionlens.network.decoder import DecoderWeights
from captionlens.runtime.decoding import State


class TorchNetwork:
    """A captioning network and optionally a backbone, with NumPy inputs and outputs.

    Args:
        network: set to evaluation mode by the caller.
        backbone: required by `encode` only.
    """

    def __init__(self, network: CaptioningNetwork, backbone: Backbone | None = None) -> None:
        self.network = network
        self.backbone = backbone
        self.device = next(network.parameters()).device
        self._weights: DecoderWeights | None = None  # made at the last `start`

    @torch.inference_mode()
    def encode(self, images: NDArray[np.float32]) -> Tensor:
        """Encode preprocessed photographs (B, 3, H, W) as grid features (B, L, D)."""
        if self.backbone is None:
            raise ValueError("this network was given no backbone")
        features: Tensor = self.backbone(torch.from_numpy(images).to(self.device))
        return features

    @torch.inference_mode()
    def start(self, features: Tensor | NDArray[np.floating]) -> State:
        """Make the initial state from grid features (B, L, D)."""
        if not isinstance(features, Tensor):
            features = torch.from_numpy(features)
        self._weights = self.network.decoder_weights()
        memory, keys, *recurrent = self.network.start(features.to(self.device))
        return State((memory, keys), tuple(recurrent))

    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """Decode one time step; see `runtime.decoding.Network`."""
        memory, keys = state.memory
        words = torch.from_numpy(tokens).to(self.device)
        log_probs, alpha, *recurrent = self.network.step(words, memory, keys, *state.recurrent, weights=self._weights)
        return (
            log_probs.float().cpu().numpy(),
            alpha.float().cpu().numpy(),
            State((memory, keys), tuple(recurrent)),
        )
