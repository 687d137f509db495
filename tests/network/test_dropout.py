"""Dropout with cheap random numbers."""

import pytest
import torch

from captionlens.network.dropout import CheapDropout


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = CheapDropout(0.3)
    values = torch.ones(401, 249, requires_grad=True)
    result = layer(values)
    kept = result != 0
    count = values.numel()
    deviation = (0.3 * 0.7 / count) ** 0.5
    assert float((~kept).float().mean()) == pytest.approx(0.3, abs=5 * deviation)
    assert result[kept].unique().tolist() == pytest.approx([1 / 0.7], rel=1e-4)
    # The four values that share a random number do not share their fate.
    shares = kept.flatten()[: count // 4 * 4].view(-1, 4).float()
    assert torch.corrcoef(shares.T).triu(1).abs().max() < 5 / (count / 4) ** 0.5
    result.sum().backward()
    torch.testing.assert_close(values.grad, result.detach())
    assert layer.eval()(values) is values
