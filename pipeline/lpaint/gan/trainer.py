"""Training of a GAN beside the agent: the trained network, its Polyak average that gives the reward, the optimizer."""

from typing import Any

import torch
from torch import Tensor

from lpaint.gan.base import Gan, Metrics
from lpaint.gan.networks import update_spectral_norms
from lpaint.runtime.params import Adam, Discriminator
from lpaint.training import optim
from lpaint.training.device import Compute
from lpaint.training.restore import load_part


class DiscriminatorTrainer:
    """Trains ``gan`` on the agent's paintings.

    ``target`` is the Polyak average of ``gan``; its score is the reward. The score of ``gan`` itself would change the
    critic's learning target with every update.

    Args:
        gan: a fresh GAN.
        settings: the settings that all GANs share.
        adam: the optimizer's settings, from the GAN's own section.
        compute: device and precision.
    """

    def __init__(self, gan: Gan, settings: Discriminator, adam: Adam, compute: Compute) -> None:
        self.settings, self.compute = settings, compute
        self.gan = gan.to(compute.torch_device)
        self.target = optim.frozen_copy(self.gan)
        first, second = adam.betas
        self.optimiser = optim.adam(self.gan, adam.learning_rate, (first, second))

    def update(self, real: Tensor, fake: Tensor, rng: torch.Generator) -> Metrics:
        """One step of the network and its target on real and fake pairs [B, 6, S, S]; returns scalars to log.

        A frozen GAN takes no step, but its reference pairs are updated.
        """
        if self.settings.frozen:
            self._update_references(real, fake)
            return {}
        with self.compute.autocast():
            loss, metrics = self.gan.loss(real, fake, rng)
        optim.optimizer_step(loss, list(self.gan.parameters()), self.optimiser)
        self.gan.on_step(metrics)
        self._update_target()
        self._update_references(real, fake)
        return {"losses/discriminator": loss.detach()} | {f"gan/{name}": value for name, value in metrics.items()}

    def synchronise(self) -> None:
        """Copy the network's state to the target."""
        self.target.load_state_dict(self.gan.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """State of network, target and optimizer."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned.

        Raises:
            MisfitError: the state is of other networks.
        """
        for name, part in self._parts().items():
            load_part(part, state, name)

    def _parts(self) -> dict[str, Any]:
        return {"gan": self.gan, "target": self.target, "optimiser": self.optimiser}

    def _update_target(self) -> None:
        # The target has singular vectors and references of its own, so its buffers are not copied.
        optim.polyak_update(self.target, self.gan, self.settings.tau, buffers=False)
        update_spectral_norms(self.target)

    def _update_references(self, real: Tensor, fake: Tensor) -> None:
        with self.compute.autocast():
            self.target.update_references(real, fake)
