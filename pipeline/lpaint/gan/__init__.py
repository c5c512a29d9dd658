"""Discriminators that reward the agent, registered by the name that ``agent.gan`` takes.

A GAN (``base.Gan``) is a discriminator network and a loss. ``DiscriminatorTrainer`` trains it and keeps the Polyak
average whose score is the reward.

Adding a GAN takes:

1. A file here with a subclass of ``Gan``: ``name``, ``summary``, ``build`` and ``loss``.
2. The class in ``_GANS``.
3. In ``runtime/params.py``: the name in ``Agent.gan``'s Literal, and a field of that name in ``Agent`` for its
   settings, of type ``Adam`` or a subclass. Parameters are typed, so a new settings section cannot be avoided.
4. The section's values in ``params.yaml``.

The contract tests in ``tests/gan`` and ``lpaint bench gans`` run over all registered GANs.
"""

from lpaint.errors import ParamsError
from lpaint.gan.base import Gan
from lpaint.gan.cramer import Cramer
from lpaint.gan.dragan import Dragan
from lpaint.gan.fisher import Fisher
from lpaint.gan.hinge import Sagan, SaganLinear, Sngan
from lpaint.gan.networks import pair
from lpaint.gan.trainer import DiscriminatorTrainer
from lpaint.gan.wgan_gp import WganGp
from lpaint.runtime.params import Agent

__all__ = ["DiscriminatorTrainer", "Gan", "build_gan", "gan_names", "gan_summaries", "pair"]

_GANS: dict[str, type[Gan]] = {gan.name: gan for gan in (WganGp, Dragan, Fisher, Cramer, Sngan, Sagan, SaganLinear)}


def gan_names() -> list[str]:
    """Names that ``agent.gan`` may take besides ``none``."""
    return list(_GANS)


def gan_summaries() -> dict[str, str]:
    """One line about each GAN, by name."""
    return {name: gan.summary for name, gan in _GANS.items()}


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
    return _GANS[name].build(settings)
