"""Discriminators that reward the agent. A GAN is a loss over a pair discriminator, registered by name."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lpaint.errors import ParamsError
from lpaint.gan.networks import PairDiscriminator, pair
from lpaint.gan.wgan_gp import WganGp
from lpaint.params import Discriminator

__all__ = ["Gan", "PairDiscriminator", "build_gan", "gan_names", "pair"]


class Gan(Protocol):
    """What a GAN adds to a discriminator network: its training loss."""

    name: str

    def loss(
        self, score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss over real and fake pairs [B, 6, S, S], and scalars to log."""
        ...


_GANS: dict[str, Callable[[Discriminator], Gan]] = {
    "wgan_gp": lambda settings: WganGp(settings.gradient_penalty),
}


def gan_names() -> list[str]:
    """Names that ``agent.gan`` may take besides ``none``."""
    return sorted(_GANS)


def build_gan(name: str, settings: Discriminator) -> Gan | None:
    """The GAN registered as ``name``; None for ``none``.

    Raises:
        ParamsError: there is no such GAN.
    """
    if name == "none":
        return None
    if name not in _GANS:
        raise ParamsError(f"agent.gan: there is no GAN {name!r}; choose none or one of {', '.join(gan_names())}")
    return _GANS[name](settings)
