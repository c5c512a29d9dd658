"""The hinge loss of SNGAN and SAGAN, whose discriminators are bounded by spectral norms alone."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lpaint.gan.base import Gan, Metrics


class _Hinge(Gan):
    """Descend E[max(0, 1 - D(real))] + E[max(0, 1 + D(fake))]; the score is D itself."""

    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """See ``Gan.loss``."""
        # Together, so that one power iteration serves both.
        on_real, on_fake = self(torch.cat([real, fake])).chunk(2)
        loss = F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()
        right = ((on_real > 0).float().mean() + (on_fake < 0).float().mean()) / 2
        return loss, {"hinge": loss.detach(), "accuracy": right}


class Sngan(_Hinge):
    """Spectral normalisation (Miyato et al. 2018, arXiv 1802.05957, section 2.1), hinge loss (equations 16 and 17)."""

    summary = "hinge loss, spectral norm (Miyato et al. 2018)"


class Sagan(_Hinge):
    """Self-attention GAN (Zhang et al. 2019, arXiv 1805.08318): SNGAN's loss (equation 4), attention in the network."""

    summary = "hinge loss, spectral norm, self-attention (Zhang et al. 2019)"


class SaganLinear(_Hinge):
    """SAGAN with attention whose cost grows with the number of pixels, not its square (see ``LinearAttention``)."""

    summary = "SAGAN with attention linear in the number of pixels (Shen et al. 2021): a twelfth of its cost at 128 px"
