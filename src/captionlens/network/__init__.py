"""The captioning network: additive attention, a recurrent decoder, and the presets that shape them."""

from captionlens.network.captioning_network import CaptioningNetwork, Teacher
from captionlens.network.network_config import PRESETS, NetworkConfig

__all__ = ["PRESETS", "CaptioningNetwork", "NetworkConfig", "Teacher"]
