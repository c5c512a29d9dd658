"""What every GAN is made of: a discriminator network on pairs of pictures, the loss that trains it, and a score."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

Metrics = dict[str, Tensor]


class Gan(nn.Module, ABC):
    """A discriminator on pairs [B, 6, S, S], canvas beside target, in [0, 1].

    A real pair is a picture beside itself; a fake one is a painting beside its picture. Calling the module gives the
    score [B] that rewards the agent; it rises as a painting comes closer to its picture.
    """

    summary: ClassVar[str]
    """One line for lists: what it is, and whose."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pairs: Tensor) -> Tensor:
        """Scores [B] of pairs [B, 6, S, S], unbounded."""
        scores: Tensor = self.network(pairs).float()
        return scores

    @abstractmethod
    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """The scalar to descend over real and fake pairs [B, 6, S, S], and scalars to log.

        ``generator`` draws whatever the loss needs at random.
        """

    def stepped(self, metrics: Metrics) -> None:
        """Called after each optimiser step with what the loss logged."""

    def update_references(self, real: Tensor, fake: Tensor) -> None:
        """Called with each batch [B, 6, S, S], before scores are asked for, for scores that are relative to others."""


def gradient_norms(score: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Length of a score's gradient at pairs [B, 6, S, S], over all six channels: [B], differentiable."""
    at = at.detach().requires_grad_()
    (slope,) = torch.autograd.grad(score(at).sum(), at, create_graph=True)
    # The small constant keeps the norm's derivative finite where the slope is zero.
    return (slope.flatten(1).square().sum(1) + 1e-12).sqrt()


def interpolate(real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """Random points on the lines between real and fake pairs: e real + (1 - e) fake, one e in [0, 1] a pair."""
    mix = torch.rand(len(real), 1, 1, 1, generator=generator, device=real.device)
    return mix * real + (1 - mix) * fake
