"""DRAGAN: a logistic GAN with a gradient penalty around the real data (Kodali et al. 2017, arXiv 1705.07215)."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lpaint.gan.base import Gan, Metrics, gradient_norms
from lpaint.gan.networks import PairDiscriminator
from lpaint.runtime.params import Agent, DraganSettings
from lpaint.training import distributed


class Dragan(Gan):
    """Minimise E[-log s(D(real))] + E[-log(1 - s(D(fake)))] + lambda E[(||grad D(x + d)||_2 - 1)^2], s the sigmoid.

    The penalty (section 2.3) is taken at *real* pairs x with noise d ~ N(0, c^2) on every value of canvas and target; c
    is ``perturbation`` times the standard deviation of the batch's real pairs. The authors' code uses 0.5. Nothing is
    clipped to [0, 1]. The score is the logit D, which does not saturate as s(D) does.
    """

    name = "dragan"
    summary = "logistic loss, gradient penalty around the real pairs (Kodali et al. 2017)"

    def __init__(self, network: nn.Module, settings: DraganSettings) -> None:
        super().__init__(network)
        self.settings = settings

    @classmethod
    def build(cls, agent: Agent) -> Self:
        return cls(PairDiscriminator.build(agent), agent.dragan)

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        noise = torch.randn(real.shape, generator=generator, device=real.device)
        perturbed = real + self.settings.perturbation * distributed.all_reduce_std(real) * noise
        penalty = (gradient_norms(self, perturbed) - 1).square().mean()
        on_real, on_fake = self(real), self(fake)
        logistic = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        loss = logistic + self.settings.gradient_penalty * penalty
        accuracy = ((on_real > 0).float().mean() + (on_fake < 0).float().mean()) / 2
        return loss, {"logistic": logistic.detach(), "accuracy": accuracy, "gradient_penalty": penalty.detach()}
