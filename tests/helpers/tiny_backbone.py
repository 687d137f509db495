"""A backbone of two convolutions, which is exported in a second where a real one takes ten."""

import torch
from torch import Tensor, nn

from captionlens.features.backbones.base import Backbone, to_places
from captionlens.runtime.images import Preprocessing


class TinyBackbone(Backbone):
    """A 7x7 grid of 32 channels from 56x56 pixels, with random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "tiny"
        self.preprocessing = Preprocessing(56, (0.5,) * 3, (0.5,) * 3, "bilinear")
        self.grid = (7, 7)
        self.channels = 32
        random = torch.Generator().manual_seed(5)
        self.convolution = nn.Conv2d(3, 16, 4, stride=4, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Conv2d(16, self.channels, 2, stride=2, bias=False)
        with torch.no_grad():
            colours, last = self.convolution.weight, self.last.weight
            colours.normal_(std=0.5, generator=random)
            colours -= colours.mean(1, keepdim=True)  # what is grey leaves nothing: features are sparse, as real ones
            last.normal_(std=0.5, generator=random)
            last -= last.mean((1, 2, 3), keepdim=True)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, 56, 56) as grid features (B, 49, 32)."""
        return to_places(self.last(self.norm(self.convolution(images)).relu()).relu())
