"""How networks take a step: optimisers, gradients, and the slow copies that follow."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from lpaint.training import distributed

Network = TypeVar("Network", bound=nn.Module)


class Optimisation:
    """The fast way: fused Adam, gradients of the wanted parameters alone, averages of all tensors at once."""

    def adam(
        self, network: nn.Module, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> torch.optim.Adam:
        """Adam for a network's parameters."""
        return torch.optim.Adam(network.parameters(), lr=learning_rate, betas=betas, fused=True)

    def descend(
        self, loss: Tensor, parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, limit: float = 0.0
    ) -> Tensor:
        """One optimiser step on ``parameters`` only, clipped to norm ``limit`` if above 0; returns the gradient's norm.

        Gradients are asked of these parameters alone: the networks that a loss passes through get no backward pass of
        their weights. They are averaged over the ranks of a training before the norm is taken.
        """
        gradients = distributed.averaged(torch.autograd.grad(loss, parameters))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # torch's fused Adam on the CPU pairs elements by their order in memory, whatever the strides say.
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        norm = nn.utils.clip_grad_norm_(parameters, limit if limit else float("inf"))
        optimiser.step()
        return norm

    @torch.no_grad()
    def follow(self, slow: nn.Module, fast: nn.Module, rate: float, *, buffers: bool = True) -> None:
        """Polyak averaging of parameters; ``buffers`` (running statistics of batch norm) are copied, or left alone."""
        torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), rate)
        if buffers:
            copy_buffers(slow, fast)


def copy_buffers(slow: nn.Module, fast: nn.Module) -> None:
    """Give ``slow`` the buffers of ``fast``."""
    for mine, theirs in zip(slow.buffers(), fast.buffers(), strict=True):
        mine.copy_(theirs)


def frozen_copy(network: Network) -> Network:
    """A copy in evaluation mode that asks for no gradients."""
    return copy.deepcopy(network).requires_grad_(False).eval()
