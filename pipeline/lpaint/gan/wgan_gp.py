"""Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028)."""

from typing import Self

import torch
from torch import Tensor, nn

from lpaint.gan.base import Gan, Metrics, gradient_norms, interpolate
from lpaint.gan.networks import PairDiscriminator
from lpaint.runtime.params import Agent, WganGpSettings


class WganGp(Gan):
    """Equation 3: minimise E[D(fake)] - E[D(real)] + lambda E[(||grad D(x)||_2 - 1)^2].

    The points x are random interpolations between real and fake pairs. The gradient is over all six channels. The score
    is D.
    """

    name = "wgan_gp"
    summary = "Wasserstein distance, gradient penalty between real and fake (Gulrajani et al. 2017)"

    def __init__(self, network: nn.Module, settings: WganGpSettings) -> None:
        super().__init__(network)
        self.settings = settings

    @classmethod
    def build(cls, agent: Agent) -> Self:
        return cls(PairDiscriminator.build(agent), agent.wgan_gp)

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        penalty = (gradient_norms(self, interpolate(real, fake, generator)) - 1).square().mean()
        distance = self(real).mean() - self(fake).mean()
        loss = -distance + self.settings.gradient_penalty * penalty
        return loss, {"wasserstein": distance.detach(), "gradient_penalty": penalty.detach()}
