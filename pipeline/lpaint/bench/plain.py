"""Plain versions of the functions that make a training update fast: the baseline of ``lpaint bench train``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lpaint.training import optim


def plain_adam(network: nn.Module, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """``optim.adam``, one tensor at a time."""
    return torch.optim.Adam(network.parameters(), learning_rate, betas, foreach=False)


def plain_optimizer_step(
    loss: Tensor, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, max_norm: float = 0.0
) -> Tensor:
    """``optim.optimizer_step`` with a backward pass through every weight, needed or not."""
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, max_norm if max_norm else float("inf"), foreach=False)
    optimizer.step()
    return norm


@torch.no_grad()
def plain_polyak_update(ema: nn.Module, online: nn.Module, rate: float, *, buffers: bool = True) -> None:
    """``optim.polyak_update``, one tensor at a time."""
    for slow, fast in zip(ema.parameters(), online.parameters(), strict=True):
        slow.copy_(slow * (1 - rate) + fast * rate)
    if buffers:
        optim.copy_buffers(ema, online)


@contextmanager
def plain_optim() -> Iterator[None]:
    """Replace the functions of ``lpaint.training.optim`` by the plain ones while the block runs."""
    fast = optim.adam, optim.optimizer_step, optim.polyak_update
    optim.adam, optim.optimizer_step, optim.polyak_update = plain_adam, plain_optimizer_step, plain_polyak_update
    try:
        yield
    finally:
        optim.adam, optim.optimizer_step, optim.polyak_update = fast


def contiguous(network: nn.Module) -> None:
    """Make a network keep its weights, and take its images, in torch's default memory format."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stubs leave it out
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(_contiguous_inputs)


def _contiguous_inputs(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(value.contiguous() for value in inputs)
