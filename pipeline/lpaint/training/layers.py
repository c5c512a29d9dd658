"""Layers that several networks share."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lpaint.training import distributed


class TranslatedReLU(nn.Module):
    """max(x, a) with a learnt threshold a (Xiang and Li 2017, arXiv 1704.03971).

    ``thresholds``: one for each ``channel``, as in that paper, or one for the whole ``layer``, as in the 2019 code.
    """

    def __init__(self, channels: int, thresholds: str = "channel") -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(1, channels if thresholds == "channel" else 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        # In the precision of x: a float32 threshold would promote all that follows, and cost twice the memory traffic.
        threshold = self.threshold.to(x.dtype)
        return F.relu(x - threshold) + threshold


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the whole batch of all ranks of a training (Ioffe and Szegedy 2015, arXiv 1502.03167).

    torch's own on one rank and in evaluation. Its ``SyncBatchNorm`` is for GPUs alone; this one is for either.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W], in the precision of ``input``."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(input)
        # Given running statistics of that precision, torch measures in float32, too.
        unused = torch.zeros(self.num_features, device=input.device)
        mean, variance = distributed.pooled_moments(
            *torch.batch_norm_update_stats(input.detach(), unused, unused.clone(), 0.0)
        )
        self._observe(mean, variance, distributed.world_size() * input.numel() // self.num_features)
        out: Tensor = _Normalised.apply(input, self.weight, self.bias, mean, variance, self.eps)
        return out

    @torch.no_grad()
    def _observe(self, mean: Tensor, variance: Tensor, numbers: int) -> None:
        """Let the running statistics follow, the variance without bias."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * numbers / (numbers - 1), self.momentum)


class _Normalised(torch.autograd.Function):
    """x^ = (x - mean) / deviation, scaled and shifted, where mean and deviation are the whole batch's of this very x.

    dx = scale / deviation (dy - E[dy] - x^ E[dy x^]), means over the whole batch: the first term and the sums are the
    slopes of a normalisation by constants, and the rest is one more such normalisation.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, scale, mean, variance)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, scale, shift, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, mean, variance = ctx.saved_tensors
        constants = slope, x, scale, mean, variance, None, None, False, ctx.eps, [True, True, True]
        by_x, by_scale, by_shift = torch.ops.aten.native_batch_norm_backward(*constants)
        means = distributed.all_reduce_mean(torch.stack([by_scale, by_shift])) * len(mean) / x.numel()
        to_scale, to_shift = -means * scale * (variance + ctx.eps).rsqrt()
        common = F.batch_norm(x, mean, variance, to_scale, to_shift, eps=ctx.eps)
        return by_x + common, by_scale, by_shift, None, None, None
