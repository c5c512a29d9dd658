"""Layers that several networks share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lpaint import ranks


class TranslatedReLU(nn.Module):
    """max(x, a) with a learnt threshold a a channel (Xiang and Li 2017, arXiv 1704.03971)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        # In the precision of x: a float32 threshold would promote all that follows, and cost twice the memory traffic.
        threshold = self.threshold.to(x.dtype)
        return F.relu(x - threshold) + threshold


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the whole batch of all ranks of a training (Ioffe and Szegedy 2015, arXiv 1502.03167).

    torch's own on one rank and in evaluation. Its ``SyncBatchNorm`` is for GPUs only; this one needs no more than sums.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W], in the precision of ``input``."""
        if not self.training or ranks.count() == 1:
            return super().forward(input)
        variance, mean = torch.var_mean(input.float(), (0, 2, 3), correction=0)
        mean, variance = ranks.pooled(mean, variance)
        self._observe(mean, variance, ranks.count() * input.numel() // len(mean))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (input * scale[:, None, None] + shift[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _observe(self, mean: Tensor, variance: Tensor, numbers: int) -> None:
        """Let the running statistics follow, the variance without bias."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * numbers / (numbers - 1), self.momentum)
