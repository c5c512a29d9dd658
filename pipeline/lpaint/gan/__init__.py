"""Discriminators that reward the agent, registered by the name that ``agent.gan`` takes.

A GAN (``base.Gan``) is a network and a loss. A ``DiscriminatorTrainer`` trains it and keeps the Polyak average that
gives the reward.
"""

from collections.abc import Callable

from lpaint.errors import ParamsError
from lpaint.gan.adversary import DiscriminatorTrainer
from lpaint.gan.attention import LinearAttention, SelfAttention
from lpaint.gan.base import Gan
from lpaint.gan.cramer import Cramer
from lpaint.gan.dragan import Dragan
from lpaint.gan.fisher import Fisher
from lpaint.gan.hinge import Sagan, SaganLinear, Sngan
from lpaint.gan.networks import PairDiscriminator, SpectralDiscriminator, pair
from lpaint.gan.wgan_gp import WganGp
from lpaint.runtime.params import Agent

__all__ = ["DiscriminatorTrainer", "Gan", "build_gan", "gan_names", "gan_summaries", "pair"]


def _published(agent: Agent, outputs: int = 1) -> PairDiscriminator:
    settings = agent.discriminator
    return PairDiscriminator(settings.width, outputs, settings.head, agent.thresholds)


_GANS: dict[str, tuple[type[Gan], Callable[[Agent], Gan]]] = {
    "wgan_gp": (WganGp, lambda agent: WganGp(_published(agent), agent.wgan_gp)),
    "dragan": (Dragan, lambda agent: Dragan(_published(agent), agent.dragan)),
    "fisher": (Fisher, lambda agent: Fisher(_published(agent), agent.fisher)),
    "cramer": (Cramer, lambda agent: Cramer(_published(agent, agent.cramer.features), agent.cramer)),
    "sngan": (Sngan, lambda agent: Sngan(SpectralDiscriminator(agent.discriminator.width))),
    "sagan": (Sagan, lambda agent: Sagan(SpectralDiscriminator(agent.discriminator.width, SelfAttention))),
    "sagan_linear": (
        SaganLinear,
        lambda agent: SaganLinear(SpectralDiscriminator(agent.discriminator.width, LinearAttention)),
    ),
}


def gan_names() -> list[str]:
    """Names that ``agent.gan`` may take besides ``none``."""
    return list(_GANS)


def gan_summaries() -> dict[str, str]:
    """One line on each GAN, by name."""
    return {name: kind.summary for name, (kind, _) in _GANS.items()}


def build_gan(settings: Agent) -> Gan | None:
    """A fresh GAN of the kind that ``settings.gan`` names; None for ``none``.

    Raises:
        ParamsError: there is no such GAN.
    """
    name = settings.gan
    if name == "none":
        return None
    if name not in _GANS:
        raise ParamsError(f"agent.gan: there is no GAN {name!r}; choose none or one of {', '.join(gan_names())}")
    return _GANS[name][1](settings)
