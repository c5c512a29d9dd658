"""The base class of all GANs, and what several losses share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from lpaint.runtime.params import Agent

Metrics = dict[str, Tensor]


class Gan(nn.Module, ABC):
    """A discriminator network on pairs [B, 6, S, S] in [0, 1] (canvas and target stacked), and the loss that trains it.

    In a real pair the canvas equals the target; in a fake pair it is a painting of the target. Calling the module gives
    the score [B] that rewards the agent. The score rises as the canvas comes closer to the target.
    """

    name: ClassVar[str]
    """The value of ``agent.gan``."""
    summary: ClassVar[str]
    """One line for lists: the method and its paper."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @classmethod
    @abstractmethod
    def build(cls, agent: Agent) -> Self:
        """A fresh GAN with the settings of ``agent``."""

    def forward(self, pairs: Tensor) -> Tensor:
        """Scores [B] of pairs [B, 6, S, S], unbounded."""
        scores: Tensor = self.network(pairs).float()
        return scores

    @abstractmethod
    def loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """The scalar loss to minimise on real and fake pairs [B, 6, S, S], and scalars to log.

        ``generator`` is the source of all random numbers in the loss.
        """

    def on_step(self, metrics: Metrics) -> None:
        """Called after each optimizer step with the metrics of the loss."""

    def update_references(self, real: Tensor, fake: Tensor) -> None:
        """Called with each batch [B, 6, S, S], for scores that are relative to reference pairs."""


def gradient_norms(score: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """L2 norm of a score's gradient at pairs [B, 6, S, S], over all six channels: [B], differentiable."""
    at = at.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(at).sum(), at, create_graph=True)
    # The constant keeps the derivative of the norm finite where the gradient is zero.
    return (gradient.flatten(1).square().sum(1) + 1e-12).sqrt()


def interpolate(real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """Random points between real and fake pairs: e real + (1 - e) fake, one uniform e in [0, 1] for each pair."""
    weight = torch.rand(len(real), 1, 1, 1, generator=generator, device=real.device)
    return weight * real + (1 - weight) * fake
