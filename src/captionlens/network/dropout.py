"""Dropout with cheap random numbers, for training on processors."""

import torch
from torch import Tensor, nn


class CheapDropout(nn.Dropout):
    """Dropout (Srivastava et al., JMLR 2014) with one 64-bit random number for four values.

    On processors PyTorch generates random numbers one by one, each at the cost of a dozen products. Here each 64-bit
    number is split into four of 16 bits, so the rate is rounded to a multiple of 1 / 65,536.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop values of a tensor of any shape and scale up the others, in training only."""
        if not self.training or input.device.type != "cpu" or not 0 < self.p < 1:
            return super().forward(input)
        dropped = min(max(round(self.p * 65536), 1), 65535)
        draws = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
        bits = draws.view(torch.int16)[: input.numel()].view(input.shape)
        mask = (bits >= dropped - 32768).to(input.dtype).mul_(65536 / (65536 - dropped))
        return input * mask
