"""Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028)."""

from collections.abc import Callable

import torch
from torch import Tensor


class WganGp:
    """Discriminator loss of WGAN-GP, equation 3: E[D(fake)] - E[D(real)] + lambda E[(||grad D(x)||_2 - 1)^2].

    The penalty is taken at x = e * real + (1 - e) * fake, one e in [0, 1] a pair, over all six channels. The score
    that rewards the agent is D itself, which rises as the pair comes to look like a real one.
    """

    name = "wgan_gp"

    def __init__(self, gradient_penalty: float) -> None:
        self.gradient_penalty = gradient_penalty

    def loss(
        self, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss to descend and what to log of it.

        Args:
            score: the discriminator, [B, 6, S, S] -> [B].
            real, fake: pairs, [B, 6, S, S], in [0, 1].
            generator: draws the mixing weights.
        """
        mix = torch.rand(len(real), 1, 1, 1, generator=generator, device=real.device)
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(score(between).sum(), between, create_graph=True)
        # The small constant keeps the norm's derivative finite where the slope is zero.
        penalty = ((slope.flatten(1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()
        distance = score(real).mean() - score(fake).mean()
        loss = -distance + self.gradient_penalty * penalty
        return loss, {"wasserstein": distance.detach(), "gradient_penalty": penalty.detach()}
