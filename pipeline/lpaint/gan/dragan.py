"""DRAGAN: a logistic GAN that is kept smooth around the real data (Kodali et al. 2017, arXiv 1705.07215)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lpaint.gan.base import Gan, Metrics, gradient_norms
from lpaint.runtime.params import DraganSettings
from lpaint.training import distributed


class Dragan(Gan):
    """Descend E[-log s(D(real))] + E[-log(1 - s(D(fake)))] + lambda E[(||grad D(x + d)||_2 - 1)^2], s the sigmoid.

    The penalty (section 2.3) is taken at *real* pairs with noise d ~ N(0, c^2) added to every value of both pictures,
    c being ``perturbation`` times the standard deviation of the batch's real pairs: half a deviation, as in the
    authors' code. Nothing is clipped to [0, 1]. The score is the logit D, which does not saturate as s(D) does.
    """

    summary = "logistic loss, gradient penalty around the real pairs (Kodali et al. 2017)"

    def __init__(self, network: nn.Module, settings: DraganSettings) -> None:
        super().__init__(network)
        self.settings = settings

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """See ``Gan.loss``."""
        noise = torch.randn(real.shape, generator=generator, device=real.device)
        around = real + self.settings.perturbation * distributed.all_reduce_std(real) * noise
        penalty = (gradient_norms(self, around) - 1).square().mean()
        on_real, on_fake = self(real), self(fake)
        logistic = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
        loss = logistic + self.settings.gradient_penalty * penalty
        right = ((on_real > 0).float().mean() + (on_fake < 0).float().mean()) / 2
        return loss, {"logistic": logistic.detach(), "accuracy": right, "gradient_penalty": penalty.detach()}
