"""The captioning network in PyTorch: additive attention, a recurrent decoder, and their compiled loops."""

from captionlens.network.captioning_network import CaptioningNetwork, Teacher
from captionlens.network.network_config import PRESETS, NetworkConfig

__all__ = ["PRESETS", "CaptioningNetwork", "NetworkConfig", "Teacher"]
