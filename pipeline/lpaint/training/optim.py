"""Adam, optimizer steps on selected parameters, and Polyak averages of networks.

Callers use these functions through the module, as ``optim.optimizer_step(...)``, so that a benchmark can replace them.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from lpaint.training import distributed

Network = TypeVar("Network", bound=nn.Module)


def adam(network: nn.Module, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """Fused Adam for all parameters of a network."""
    return torch.optim.Adam(network.parameters(), lr=learning_rate, betas=betas, fused=True)


def optimizer_step(
    loss: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, max_norm: float = 0.0
) -> Tensor:
    """Minimise a scalar ``loss`` by one optimizer step on ``parameters``; returns the gradient norm before clipping.

    Gradients are computed for ``parameters`` only, not for other networks that the loss passes through. They are
    averaged over all ranks, then clipped to the norm ``max_norm`` if that is above 0.
    """
    gradients = distributed.average_gradients(torch.autograd.grad(loss, parameters))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        # torch's fused Adam on the CPU ignores strides, so gradient and parameter need the same memory layout.
        same = gradient.stride() == parameter.stride()
        parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
    norm = nn.utils.clip_grad_norm_(parameters, max_norm if max_norm else float("inf"))
    optimizer.step()
    return norm


@torch.no_grad()
def polyak_update(ema: nn.Module, online: nn.Module, rate: float, *, buffers: bool = True) -> None:
    """Move the parameters of ``ema`` towards those of ``online``: ema += rate * (online - ema).

    ``buffers``: also copy the buffers, such as the running statistics of batch norm.
    """
    torch._foreach_lerp_(list(ema.parameters()), list(online.parameters()), rate)
    if buffers:
        copy_buffers(ema, online)


def copy_buffers(target: nn.Module, source: nn.Module) -> None:
    """Copy the buffers of ``source`` into ``target``, a network of the same structure."""
    for buffer, value in zip(target.buffers(), source.buffers(), strict=True):
        buffer.copy_(value)


def frozen_copy(network: Network) -> Network:
    """A deep copy in evaluation mode whose parameters need no gradient."""
    return copy.deepcopy(network).requires_grad_(False).eval()
