"""Fisher GAN: an integral probability metric with bounded second moments (Mroueh and Sercu 2017, arXiv 1705.09675)."""

import torch
from torch import Tensor, nn

from lpaint.gan.base import Gan, Metrics
from lpaint.runtime.params import FisherSettings
from lpaint.training import distributed


class Fisher(Gan):
    """Ascend the augmented Lagrangian of equation 9: E + l (1 - O) - rho / 2 (O - 1)^2.

    E = E[D(real)] - E[D(fake)], and the constraint O = (E[D(real)^2] + E[D(fake)^2]) / 2 is to be 1. After each step
    of D the multiplier takes its own (algorithm 1): l <- l + rho (O - 1), so that it grows while the moments are too
    large. l starts at 0 and is a buffer, saved with the network. The score is D itself.
    """

    summary = "mean difference under a bound on second moments, by an augmented Lagrangian (Mroueh and Sercu 2017)"
    multiplier: Tensor

    def __init__(self, network: nn.Module, settings: FisherSettings) -> None:
        super().__init__(network)
        self.settings = settings
        self.register_buffer("multiplier", torch.zeros(()))

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """See ``Gan.loss``."""
        on_real, on_fake = self(real), self(fake)
        distance = on_real.mean() - on_fake.mean()
        constraint = distributed.all_reduce_mean((on_real.square().mean() + on_fake.square().mean()) / 2)
        excess = constraint - 1
        # A copy: the multiplier takes its step before the graph is gone.
        lagrangian = distance - self.multiplier.clone() * excess - self.settings.rho / 2 * excess.square()
        metrics = {"distance": distance, "constraint": constraint, "multiplier": self.multiplier.clone()}
        return -lagrangian, {name: value.detach() for name, value in metrics.items()}

    @torch.no_grad()
    def stepped(self, metrics: Metrics) -> None:
        """The multiplier's step."""
        self.multiplier += self.settings.rho * (metrics["constraint"] - 1)
