"""Fisher GAN: an integral probability metric with bounded second moments (Mroueh and Sercu 2017, arXiv 1705.09675)."""

from typing import Self

import torch
from torch import Tensor, nn

from lpaint.gan.base import Gan, Metrics
from lpaint.gan.networks import PairDiscriminator
from lpaint.runtime.params import Agent, FisherSettings
from lpaint.training import distributed


class Fisher(Gan):
    """Maximise the augmented Lagrangian of equation 9: E + l (1 - O) - rho / 2 (O - 1)^2.

    E = E[D(real)] - E[D(fake)]; the constraint is O = (E[D(real)^2] + E[D(fake)^2]) / 2 = 1. After each step of D the
    multiplier takes a step (algorithm 1): l <- l + rho (O - 1), so it grows while the second moments are too large. l
    starts at 0 and is a buffer, so it is saved with the network. The score is D.
    """

    name = "fisher"
    summary = "mean difference under a bound on second moments, by an augmented Lagrangian (Mroueh and Sercu 2017)"
    multiplier: Tensor

    def __init__(self, network: nn.Module, settings: FisherSettings) -> None:
        super().__init__(network)
        self.settings = settings
        self.register_buffer("multiplier", torch.zeros(()))

    @classmethod
    def build(cls, agent: Agent) -> Self:
        return cls(PairDiscriminator.build(agent), agent.fisher)

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        on_real, on_fake = self(real), self(fake)
        distance = on_real.mean() - on_fake.mean()
        constraint = distributed.all_reduce_mean((on_real.square().mean() + on_fake.square().mean()) / 2)
        excess = constraint - 1
        # A copy, because on_step changes the multiplier in place.
        lagrangian = distance - self.multiplier.clone() * excess - self.settings.rho / 2 * excess.square()
        metrics = {"distance": distance, "constraint": constraint, "multiplier": self.multiplier.clone()}
        return -lagrangian, {name: value.detach() for name, value in metrics.items()}

    @torch.no_grad()
    def on_step(self, metrics: Metrics) -> None:
        self.multiplier += self.settings.rho * (metrics["constraint"] - 1)
