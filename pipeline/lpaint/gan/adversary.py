"""A GAN at work beside the agent: the network in training, the slow copy that rewards, and its optimiser."""

from typing import Any

import torch
from torch import Tensor

from lpaint.gan.base import Gan, Metrics
from lpaint.gan.networks import renew_spectral_norms
from lpaint.runtime.params import Adam, Discriminator
from lpaint.training import optim
from lpaint.training.device import Compute
from lpaint.training.restore import load_part


class DiscriminatorTrainer:
    """Trains ``gan`` on what the agent paints.

    ``target`` is its Polyak average, whose score is the reward: were the reward the network's own, it would change
    under the critic's feet with every update. ``gan`` itself is only trained.

    Args:
        gan: a fresh GAN.
        settings: what all GANs share; ``adam``: what its own section says of the optimiser.
        compute: device and precision.
    """

    def __init__(self, gan: Gan, settings: Discriminator, adam: Adam, compute: Compute) -> None:
        self.settings, self.compute = settings, compute
        self.gan = gan.to(compute.torch_device)
        self.target = optim.frozen_copy(self.gan)
        first, second = adam.betas
        self.optimiser = optim.adam(self.gan, adam.learning_rate, (first, second))

    def update(self, real: Tensor, fake: Tensor, rng: torch.Generator) -> Metrics:
        """One step on real and fake pairs [B, 6, S, S], and the target's after it; scalars to log.

        A frozen GAN learns nothing, but is still shown what its scores refer to.
        """
        if self.settings.frozen:
            self._update_references(real, fake)
            return {}
        with self.compute.autocast():
            loss, metrics = self.gan.loss(real, fake, rng)
        optim.optimizer_step(loss, list(self.gan.parameters()), self.optimiser)
        self.gan.stepped(metrics)
        self._follow()
        self._update_references(real, fake)
        return {"losses/discriminator": loss.detach()} | {f"gan/{name}": value for name, value in metrics.items()}

    def synchronise(self) -> None:
        """Make the target equal to the network."""
        self.target.load_state_dict(self.gan.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Network, target and optimiser."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state.

        Raises:
            MisfitError: it is of other parts.
        """
        for name, part in self._parts().items():
            load_part(part, state, name)

    def _parts(self) -> dict[str, Any]:
        return {"gan": self.gan, "target": self.target, "optimiser": self.optimiser}

    def _follow(self) -> None:
        # Singular vectors and references are the target's own.
        optim.polyak_update(self.target, self.gan, self.settings.tau, buffers=False)
        renew_spectral_norms(self.target)

    def _update_references(self, real: Tensor, fake: Tensor) -> None:
        with self.compute.autocast():
            self.target.update_references(real, fake)
