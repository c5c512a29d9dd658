"""Network layers that several packages use."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lpaint.training import distributed


class TranslatedReLU(nn.Module):
    """max(x, a) with a learnt threshold a (Xiang and Li 2017, arXiv 1704.03971).

    ``thresholds``: ``channel`` learns one for each channel, as in that paper; ``layer`` one for all, as in the 2019
    code.
    """

    def __init__(self, channels: int, thresholds: str = "channel") -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(1, channels if thresholds == "channel" else 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        # A float32 threshold would promote the output to float32, which doubles the memory traffic.
        threshold = self.threshold.to(x.dtype)
        return F.relu(x - threshold) + threshold


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batch of all ranks (Ioffe and Szegedy 2015, arXiv 1502.03167).

    On one rank and in evaluation this is torch's batch norm. torch's ``SyncBatchNorm`` works on GPUs only; this one
    works on CPUs too.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W], in the precision of ``input``."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(input)
        # With float32 running statistics torch computes the batch's statistics in float32 too.
        unused = torch.zeros(self.num_features, device=input.device)
        mean, variance = distributed.pooled_moments(
            *torch.batch_norm_update_stats(input.detach(), unused, unused.clone(), 0.0)
        )
        self._update_running_stats(mean, variance, distributed.world_size() * input.numel() // self.num_features)
        out: Tensor = _Normalised.apply(input, self.weight, self.bias, mean, variance, self.eps)
        return out

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics from the batch's ``mean`` and biased ``variance`` [C] of ``count`` numbers."""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


class _Normalised(torch.autograd.Function):
    """scale x^ + shift with x^ = (x - mean) / std, where mean and std are those of x over the batch of all ranks.

    Gradient: dx = scale / std (dy - E[dy] - x^ E[dy x^]), expectations over the whole batch. The first term and the
    sums are the gradients of a normalisation with constant statistics; the other terms are another normalisation of x.
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
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, mean, variance = ctx.saved_tensors
        arguments = gradient, x, scale, mean, variance, None, None, False, ctx.eps, [True, True, True]
        dx, dscale, dshift = torch.ops.aten.native_batch_norm_backward(*arguments)
        means = distributed.all_reduce_mean(torch.stack([dscale, dshift])) * len(mean) / x.numel()
        mean_scale, mean_shift = -means * scale * (variance + ctx.eps).rsqrt()
        correction = F.batch_norm(x, mean, variance, mean_scale, mean_shift, eps=ctx.eps)
        return dx + correction, dscale, dshift, None, None, None
