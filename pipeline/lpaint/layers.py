"""Layers that the critic and the discriminators share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TranslatedReLU(nn.Module):
    """max(x, a) with a learnt threshold a a channel (Xiang and Li 2017, arXiv 1704.03971)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        # In the precision of x: a float32 threshold would promote all that follows, and cost twice the memory traffic.
        threshold = self.threshold.to(x.dtype)
        return F.relu(x - threshold) + threshold
