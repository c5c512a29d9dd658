"""The reward: how much closer a step brings the canvas to its target."""

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

    L2, with d the mean squared error over pixels and channels (weighted towards edges if ``edges`` is above 0):

    - ``difference``: d(obs) - d(next_obs) (Huang et al. 2019, section 3.2).
    - ``log_ratio``: log((d(obs) + e) / (d(next_obs) + e)), which weighs early and late steps alike.

    GAN: D(next_obs, target) - D(obs, target). Each discriminator has a scale of its own:

    - ``gan_scale: running``: the reward is divided by its running root mean square over all batches, including the
      current one. The checkpoint holds the scale.
    - ``gan_scale: none``: the reward is not scaled, as published.

    ``score`` is None where there is no GAN; then the GAN's weight is ignored.
    """

    def __init__(self, settings: Reward, score: Score | None, device: torch.device) -> None:
        self.settings = settings
        self.score = score if settings.gan else None
        self.mean_square = torch.ones((), device=device)
        self._batches = torch.zeros((), device=device)

    def __call__(self, obs: Tensor, next_obs: Tensor, target: Tensor) -> Tensor:
        """Canvases and target [B, 3, S, S] in [0, 1] -> rewards [B], differentiable in ``next_obs``."""
        reward = torch.zeros(len(obs), device=obs.device)
        if self.settings.l2:
            reward = reward + self.settings.l2 * self._l2(obs, next_obs, target)
        if self.score is not None:
            gan_reward = self.gan_reward(obs, next_obs, target)
            if self.settings.gan_scale == "running":
                self._update_scale(gan_reward)
                gan_reward = gan_reward / (self.mean_square.sqrt() + 1e-8)
            reward = reward + self.settings.gan * gan_reward
        return reward

    def gan_reward(self, obs: Tensor, next_obs: Tensor, target: Tensor) -> Tensor:
        """The discriminator's reward [B], not scaled."""
        assert self.score is not None
        return self.score(pair(next_obs, target)) - self.score(pair(obs, target))

    @torch.no_grad()
    def _update_scale(self, gan_reward: Tensor) -> None:
        """Update the running scale by a batch; bias-corrected, so the first batch sets it."""
        square = distributed.all_reduce_mean(gan_reward.square().mean())
        self._batches += 1
        rate = torch.maximum(1 / self._batches, torch.full_like(self._batches, 0.01))
        self.mean_square += rate * (square - self.mean_square)

    def state_dict(self) -> dict[str, Any]:
        """The running scale."""
        return {"mean_square": self.mean_square.clone(), "observed": self._batches.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the running scale.

        Raises:
            MisfitError: there is none.
        """
        copy_into(self.mean_square, state, "mean_square")
        copy_into(self._batches, state, "observed")

    def reset_scale(self) -> None:
        """Let the next batch set the running scale; a discriminator's scale depends on the size of the canvases."""
        self._batches.zero_()

    def _l2(self, obs: Tensor, next_obs: Tensor, target: Tensor) -> Tensor:
        weight = edge_weight(target, self.settings.edges) if self.settings.edges else None
        error, next_error = squared_error(obs, target, weight), squared_error(next_obs, target, weight)
        if self.settings.l2_form == "difference":
            return error - next_error
        return torch.log((error + self.settings.l2_epsilon) / (next_error + self.settings.l2_epsilon))


def squared_error(canvas: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error over pixels and channels, weighted by ``weight`` [B, 1, S, S]: [B, 3, S, S] -> [B]."""
    square = (canvas - target).square()
    return (square if weight is None else square * weight).mean((1, 2, 3))


def edge_weight(target: Tensor, edges: float) -> Tensor:
    """Weights [B, 1, S, S] of mean 1 that grow with the gradient of the target [B, 3, S, S].

    (1 + edges * g) / (1 + edges), with g the gradient norm of the grey image divided by its mean.
    """
    grey = F.pad(target.mean(1, keepdim=True), (0, 1, 0, 1), mode="replicate")
    down, across = grey[:, :, 1:, :-1] - grey[:, :, :-1, :-1], grey[:, :, :-1, 1:] - grey[:, :, :-1, :-1]
    length = (down.square() + across.square()).sqrt() + 1e-4
    return (1 + edges * length / length.mean((2, 3), keepdim=True)) / (1 + edges)
