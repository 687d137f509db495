"""The torch network behind the seam that search, scores and figures know (`runtime.decoding.Network`)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captionlens.features.backbones import Backbone
from captionlens.network import CaptioningNetwork
from captionlens.network.decoder import DecoderWeights
from captionlens.runtime.decoding import State


class TorchNetwork:
    """A captioning network, and the backbone where photographs are to be encoded, driven from NumPy.

    Args:
        network: set to evaluation mode by the caller.
        backbone: needed by `encode` only.
    """

    def __init__(self, network: CaptioningNetwork, backbone: Backbone | None = None) -> None:
        self.network = network
        self.backbone = backbone
        self.device = next(network.parameters()).device
        self._weights: DecoderWeights | None = None  # as they were at the last start

    @torch.inference_mode()
    def encode(self, images: NDArray[np.float32]) -> Tensor:
        """Prepared photographs (B, 3, H, W) to grid features (B, L, D)."""
        if self.backbone is None:
            raise ValueError("this network was given no backbone")
        features: Tensor = self.backbone(torch.from_numpy(images).to(self.device))
        return features

    @torch.inference_mode()
    def start(self, features: Tensor | NDArray[np.floating]) -> State:
        """Grid features (B, L, D) to the state before the first word."""
        if not isinstance(features, Tensor):
            features = torch.from_numpy(features)
        self._weights = self.network.decoder_weights()
        memory, keys, *recurrent = self.network.start(features.to(self.device))
        return State((memory, keys), tuple(recurrent))

    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], NDArray[np.float32], State]:
        """One word further; see `runtime.decoding.Network`."""
        memory, keys = state.memory
        words = torch.from_numpy(tokens).to(self.device)
        log_probs, alpha, *recurrent = self.network.step(words, memory, keys, *state.recurrent, weights=self._weights)
        return (
            log_probs.float().cpu().numpy(),
            alpha.float().cpu().numpy(),
            State((memory, keys), tuple(recurrent)),
        )
