"""The hinge loss of SNGAN and SAGAN, whose discriminators are constrained by spectral normalisation only."""

from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lpaint.gan.attention import LinearAttention, SelfAttention
from lpaint.gan.base import Gan, Metrics
from lpaint.gan.networks import SpectralDiscriminator
from lpaint.runtime.params import Agent


class _Hinge(Gan):
    """Minimise E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))]; the score is D."""

    attention: ClassVar[type[SelfAttention] | None] = None

    @classmethod
    def build(cls, agent: Agent) -> Self:
        return cls(SpectralDiscriminator(agent.discriminator.width, cls.attention))

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        # One call for both, so that each loss takes one step of the power iteration.
        on_real, on_fake = self(torch.cat([real, fake])).chunk(2)
        loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
        accuracy = ((on_real > 0).float().mean() + (on_fake < 0).float().mean()) / 2
        return loss, {"hinge": loss.detach(), "accuracy": accuracy}


class Sngan(_Hinge):
    """Spectral normalisation (Miyato et al. 2018, arXiv 1802.05957, section 2.1), hinge loss (equations 16 and 17)."""

    name = "sngan"
    summary = "hinge loss, spectral norm (Miyato et al. 2018)"


class Sagan(_Hinge):
    """Self-attention GAN (Zhang et al. 2019, arXiv 1805.08318): SNGAN's loss (equation 4), attention in the network."""

    name = "sagan"
    summary = "hinge loss, spectral norm, self-attention (Zhang et al. 2019)"
    attention = SelfAttention


class SaganLinear(_Hinge):
    """SAGAN with ``LinearAttention``, whose cost is linear in the number of pixels."""

    name = "sagan_linear"
    summary = "SAGAN with attention linear in the number of pixels (Shen et al. 2021): a twelfth of its cost at 128 px"
    attention = LinearAttention
