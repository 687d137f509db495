"""What inference does by shorter ways must end with the same numbers."""

import pytest
import torch

from captionlens.features.backbones import load_backbone
from captionlens.features.backbones.efficientnet_lite import SamePadConv2d


@pytest.mark.slow
def test_shorter_ways_of_inference_give_the_same_bits() -> None:
    torch.manual_seed(0)
    backbone = load_backbone("efficientnet_lite0").fuse().bfloat16()
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    images = torch.randn(2, 3, 224, 224).bfloat16().to(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = backbone(images)
    with torch.inference_mode():
        short = backbone(images)
    assert plain.abs().max() > 1
    # Where ReLU6 is part of the convolution, it is applied before rounding: the same, as 0 and 6 are bfloat16.
    torch.testing.assert_close(short, plain, rtol=0, atol=0)


def test_odd_padding_is_at_the_end_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    for size, kernel, stride in ((6, 3, 2), (7, 3, 2), (9, 5, 2), (8, 5, 2), (5, 3, 1)):
        convolution = SamePadConv2d(2, 4, kernel, stride)
        images = torch.randn(3, 2, size, size + 1)
        expected = convolution(images)
        with torch.inference_mode():
            for layout in (torch.contiguous_format, torch.channels_last):
                torch.testing.assert_close(convolution(images.to(memory_format=layout)), expected)
        assert expected.shape[-2:] == (-(-size // stride), -(-(size + 1) // stride))
