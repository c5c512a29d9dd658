"""What the agent is paid for: how much closer a step brought the canvas to its target."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lpaint.gan import pair
from lpaint.runtime.params import Reward
from lpaint.training import distributed
from lpaint.training.restore import copy_into

Score = Callable[[Tensor], Tensor]
"""Target discriminator: pairs [B, 6, S, S] -> [B]."""


class RewardModel:
    """Weighted sum of an L2 reward and a discriminator's reward.

    L2, with d the mean squared error over pixels and channels (edges weigh more if ``edges`` is above 0):
    ``difference``, d_before - d_after (Huang et al. 2019, section 3.2); or ``log_ratio``,
    log((d_before + e) / (d_after + e)), which weighs early and late steps alike.
    GAN: D(after, target) - D(before, target). Each discriminator has a scale of its own, so with ``gan_scale: running``
    it is divided by its running root mean square over all batches that rewards were asked for, this one included; the
    scale is kept in the checkpoint. ``none`` takes it as it is, as published.

    ``score`` is None where there is no GAN; then the gan weight is ignored.
    """

    def __init__(self, settings: Reward, score: Score | None, device: torch.device) -> None:
        self.settings = settings
        self.score = score if settings.gan else None
        self.mean_square = torch.ones((), device=device)
        self._observed = torch.zeros((), device=device)

    def __call__(self, before: Tensor, after: Tensor, target: Tensor) -> Tensor:
        """Canvases and target [B, 3, S, S] in [0, 1] -> rewards [B], differentiable in ``after``."""
        reward = torch.zeros(len(before), device=before.device)
        if self.settings.l2:
            reward = reward + self.settings.l2 * self._l2(before, after, target)
        if self.score is not None:
            gain = self.gain(before, after, target)
            if self.settings.gan_scale == "running":
                self._observe(gain)
                gain = gain / (self.mean_square.sqrt() + 1e-8)
            reward = reward + self.settings.gan * gain
        return reward

    def gain(self, before: Tensor, after: Tensor, target: Tensor) -> Tensor:
        """The discriminator's unscaled reward [B]."""
        assert self.score is not None
        return self.score(pair(after, target)) - self.score(pair(before, target))

    @torch.no_grad()
    def _observe(self, gain: Tensor) -> None:
        """Let the running scale follow; bias-corrected, so the first batch sets it."""
        square = distributed.all_reduce_mean(gain.square().mean())
        self._observed += 1
        rate = torch.maximum(1 / self._observed, torch.full_like(self._observed, 0.01))
        self.mean_square += rate * (square - self.mean_square)

    def state_dict(self) -> dict[str, Any]:
        """The running scale."""
        return {"mean_square": self.mean_square.clone(), "observed": self._observed.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the running scale.

        Raises:
            MisfitError: there is none.
        """
        copy_into(self.mean_square, state, "mean_square")
        copy_into(self._observed, state, "observed")

    def forget_scale(self) -> None:
        """Let the next batch set the running scale: on canvases of another size a discriminator has another scale."""
        self._observed.zero_()

    def _l2(self, before: Tensor, after: Tensor, target: Tensor) -> Tensor:
        weight = edge_weight(target, self.settings.edges) if self.settings.edges else None
        was, now = squared_error(before, target, weight), squared_error(after, target, weight)
        if self.settings.l2_form == "difference":
            return was - now
        return torch.log((was + self.settings.l2_epsilon) / (now + self.settings.l2_epsilon))


def squared_error(canvas: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error over pixels and channels, weighted by ``weight`` [B, 1, S, S]: [B, 3, S, S] -> [B]."""
    square = (canvas - target).square()
    return (square if weight is None else square * weight).mean((1, 2, 3))


def edge_weight(target: Tensor, edges: float) -> Tensor:
    """Weights [B, 1, S, S] of mean 1 that grow with how much the target [B, 3, S, S] changes at a pixel.

    (1 + edges * g) / (1 + edges), with g the length of the grey picture's gradient over its mean.
    """
    grey = F.pad(target.mean(1, keepdim=True), (0, 1, 0, 1), mode="replicate")
    down, across = grey[:, :, 1:, :-1] - grey[:, :, :-1, :-1], grey[:, :, :-1, 1:] - grey[:, :, :-1, :-1]
    length = (down.square() + across.square()).sqrt() + 1e-4
    return (1 + edges * length / length.mean((2, 3), keepdim=True)) / (1 + edges)
