"""Exploration: noise on the strokes or the weights of the actor that paints the episodes of the replay."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lpaint.agent.batch import Batch
from lpaint.agent.ddpg import Ddpg
from lpaint.runtime.params import Agent
from lpaint.training import distributed
from lpaint.training.restore import copy_into


class Exploration:
    """No exploration: the actor paints the episodes without noise."""

    def __init__(self, agent: Ddpg, settings: Agent, rng: torch.Generator) -> None:
        self.agent, self.settings, self.rng = agent, settings, rng

    def resample_noise(self) -> None:
        """Draw new noise; called before each round of episodes."""

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """Strokes [B, K, P] in [0, 1]; see ``Actor.forward``."""
        return self.agent.policy(canvas, target, fraction)

    def adapt_noise(self, batch: Batch) -> dict[str, Tensor]:
        """Adapt the noise after each round, by a uniform sample of the replay; returns scalars to log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The adapted scale of the noise, if it has one."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state.

        Raises:
            MisfitError: it is of another kind of exploration.
        """


class GaussianNoise(Exploration):
    """Independent noise N(0, std^2) on every number of every stroke, kept in [0, 1] (Fujimoto et al. 2018, 5.3)."""

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        strokes = self.agent.policy(canvas, target, fraction)
        noise = torch.randn(strokes.shape, generator=self.rng, device=strokes.device)
        return (strokes + self.settings.noise.std * noise).clamp(0, 1)


class ParameterNoise(Exploration):
    """Adaptive noise on the actor's weights (Plappert et al. 2018, arXiv 1706.01905, section 3).

    One perturbed copy of the actor paints a round of episodes: N(0, sigma^2) is added to the weights and biases of its
    convolutions and linear layers, and not to those of normalisation layers (as in the authors' code). After the round,
    sigma is multiplied by ``adaptation`` if the copy's strokes are nearer to the actor's than ``std``, and divided by
    it otherwise (equation 3). The distance is the root mean square over a batch (equation 4), which equals the standard
    deviation of noise on the strokes themselves. The method relies on layer norm, with which equal noise has an equal
    effect in every layer. Each rank perturbs a copy of its own; the distance is over all ranks.
    """

    def __init__(self, agent: Ddpg, settings: Agent, rng: torch.Generator) -> None:
        super().__init__(agent, settings, rng)
        # The first value matters little, but ``std`` itself would be larger than the weights of a fresh network.
        self.sigma = torch.full((), settings.noise.std / 10, device=rng.device)
        self._perturbed = copy.deepcopy(agent.actor).requires_grad_(False).eval()

    @torch.no_grad()
    def resample_noise(self) -> None:
        self._perturbed.load_state_dict(self.agent.actor.state_dict())
        for module in self._perturbed.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                for weight in module.parameters(recurse=False):
                    noise = torch.randn(weight.shape, generator=self.rng, device=weight.device)
                    weight.add_(self.sigma * noise)

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        return self.agent.act(self._perturbed, canvas, target, fraction)

    @torch.no_grad()
    def adapt_noise(self, batch: Batch) -> dict[str, Tensor]:
        inputs = batch.obs, batch.target, batch.step / self.settings.max_steps
        square = (self.policy(*inputs) - self.agent.policy(*inputs)).square().mean()
        distance = distributed.all_reduce_mean(square).sqrt()
        nearer, factor = distance < self.settings.noise.std, self.settings.noise.adaptation
        self.sigma *= torch.where(nearer, factor, 1 / factor)
        return {"exploration/sigma": self.sigma.clone(), "exploration/distance": distance}

    def state_dict(self) -> dict[str, Any]:
        return {"sigma": self.sigma.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        copy_into(self.sigma, state, "sigma")


_KINDS: dict[str, type[Exploration]] = {"none": Exploration, "gaussian": GaussianNoise, "parameter": ParameterNoise}


def build_exploration(agent: Ddpg, settings: Agent, rng: torch.Generator) -> Exploration:
    """The exploration that ``settings.exploration`` names."""
    return _KINDS[settings.exploration](agent, settings, rng)
