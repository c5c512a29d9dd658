"""The update without any of what makes it fast: the yardstick of ``lpaint bench train``."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lpaint.training.optim import Optimisation, copy_buffers


class PlainOptimisation(Optimisation):
    """Steps as one first writes them.

    Every loss is propagated to every weight that it touches, wanted or not; Adam and the target networks are updated a
    tensor at a time.
    """

    def adam(
        self, network: nn.Module, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> torch.optim.Adam:
        """See ``Optimisation.adam``."""
        return torch.optim.Adam(network.parameters(), learning_rate, betas, foreach=False)

    def descend(
        self, loss: Tensor, parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, limit: float = 0.0
    ) -> Tensor:
        """See ``Optimisation.descend``; here the critic and the discriminator get gradients that nobody reads."""
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, limit if limit else float("inf"), foreach=False)
        optimiser.step()
        return norm

    @torch.no_grad()
    def follow(self, slow: nn.Module, fast: nn.Module, rate: float, *, buffers: bool = True) -> None:
        """See ``Optimisation.follow``."""
        for slow_parameter, parameter in zip(slow.parameters(), fast.parameters(), strict=True):
            slow_parameter.copy_(slow_parameter * (1 - rate) + parameter * rate)
        if buffers:
            copy_buffers(slow, fast)


def contiguous(network: nn.Module) -> None:
    """Make a network keep its weights, and take its pictures, in torch's default memory format."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stubs leave it out
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(_no_format)


def _no_format(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(value.contiguous() for value in inputs)
