"""How episodes stray from the actor's own strokes, so that the replay holds more than what it already does."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lpaint.agent.ddpg import Ddpg, State
from lpaint.runtime.params import Agent
from lpaint.training import distributed
from lpaint.training.restore import copy_into


class Exploration:
    """None: episodes are painted by the actor as it is."""

    def __init__(self, agent: Ddpg, settings: Agent, rng: torch.Generator) -> None:
        self.agent, self.settings, self.rng = agent, settings, rng

    def begin(self) -> None:
        """Called before each round of episodes."""

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """Strokes [B, K, P] in [0, 1]; see ``Actor.forward``."""
        return self.agent.policy(canvas, target, fraction)

    def adapt(self, state: State) -> dict[str, Tensor]:
        """Called after each round with an even sample of the replay; scalars to log."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What has been learnt of how far to stray."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state.

        Raises:
            MisfitError: it is of another kind of exploration.
        """


class GaussianNoise(Exploration):
    """Independent noise N(0, std^2) on every number of every stroke, kept in [0, 1] (Fujimoto et al. 2018, 5.3)."""

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """See ``Exploration.policy``."""
        strokes = self.agent.policy(canvas, target, fraction)
        noise = torch.randn(strokes.shape, generator=self.rng, device=strokes.device)
        return (strokes + self.settings.noise.std * noise).clamp(0, 1)


class ParameterNoise(Exploration):
    """Adaptive noise on the actor's weights (Plappert et al. 2018, arXiv 1706.01905, section 3).

    A round of episodes is painted by one perturbed copy of the actor: N(0, sigma^2) is added to the weights and biases
    of its convolutions and linear layers; those of normalisation layers stay, as in the authors' code. After the round
    sigma grows or shrinks by the factor ``adaptation`` (equation 3), as the copy's strokes are nearer to the actor's
    than ``std`` or not, by the root mean square over a batch of states (equation 4): a distance of so much is what
    noise of that deviation on the strokes themselves makes. It relies on layer norm, on which the same noise is as
    strong in every layer. Each rank of a training perturbs a copy of its own; sigma follows the distance of them all.
    """

    def __init__(self, agent: Ddpg, settings: Agent, rng: torch.Generator) -> None:
        super().__init__(agent, settings, rng)
        # Where it begins matters little; that of the strokes would drown the weights of a fresh network.
        self.sigma = torch.full((), settings.noise.std / 10, device=rng.device)
        self._perturbed = copy.deepcopy(agent.actor).requires_grad_(False).eval()

    @torch.no_grad()
    def begin(self) -> None:
        """Perturb anew."""
        self._perturbed.load_state_dict(self.agent.actor.state_dict())
        for module in self._perturbed.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                for weight in module.parameters(recurse=False):
                    noise = torch.randn(weight.shape, generator=self.rng, device=weight.device)
                    weight.add_(self.sigma * noise)

    def policy(self, canvas: Tensor, target: Tensor, fraction: Tensor) -> Tensor:
        """See ``Exploration.policy``."""
        return self.agent.act(self._perturbed, canvas, target, fraction)

    @torch.no_grad()
    def adapt(self, state: State) -> dict[str, Tensor]:
        """Let sigma follow how far the last round's copy strayed."""
        seen = state.before, state.target, state.step / self.settings.max_steps
        distance = distributed.all_reduce_mean((self.policy(*seen) - self.agent.policy(*seen)).square().mean()).sqrt()
        nearer, factor = distance < self.settings.noise.std, self.settings.noise.adaptation
        self.sigma *= torch.where(nearer, factor, 1 / factor)
        return {"exploration/sigma": self.sigma.clone(), "exploration/distance": distance}

    def state_dict(self) -> dict[str, Any]:
        """See ``Exploration.state_dict``."""
        return {"sigma": self.sigma.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See ``Exploration.load_state_dict``."""
        copy_into(self.sigma, state, "sigma")


_KINDS: dict[str, type[Exploration]] = {"none": Exploration, "gaussian": GaussianNoise, "parameter": ParameterNoise}


def build_exploration(agent: Ddpg, settings: Agent, rng: torch.Generator) -> Exploration:
    """What ``settings.exploration`` names."""
    return _KINDS[settings.exploration](agent, settings, rng)
