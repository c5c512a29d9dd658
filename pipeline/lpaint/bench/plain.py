"""The update without any of what makes it fast: the yardstick of ``lpaint bench train``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lpaint.agent.ddpg import Ddpg


class PlainDdpg(Ddpg):
    """The same mathematics in fp32, contiguous and unfused, as one first writes it.

    Every loss is propagated to every weight that it touches, wanted or not; Adam and the target networks are updated a
    tensor at a time. Takes what ``Ddpg`` takes; the compute given is to be fp32 and uncompiled.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        for name, part in self._parts().items():
            if isinstance(part, nn.Module):
                part.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
                part.get_submodule("trunk.0").register_forward_pre_hook(_no_format)
            if isinstance(part, torch.optim.Adam):
                group = part.param_groups[0]
                setattr(self, name, torch.optim.Adam(group["params"], group["lr"], group["betas"], foreach=False))

    def descend(
        self, loss: Tensor, parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, limit: float
    ) -> Tensor:
        """See ``Ddpg.descend``; here the critic and the discriminator get gradients that nobody reads."""
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, limit if limit else float("inf"), foreach=False)
        optimiser.step()
        return norm

    @torch.no_grad()
    def follow(self, slow: nn.Module, fast: nn.Module, rate: float) -> None:
        """See ``Ddpg.follow``."""
        for slow_parameter, parameter in zip(slow.parameters(), fast.parameters(), strict=True):
            slow_parameter.copy_(slow_parameter * (1 - rate) + parameter * rate)
        for slow_buffer, buffer in zip(slow.buffers(), fast.buffers(), strict=True):
            slow_buffer.copy_(buffer)


def _no_format(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(value.contiguous() for value in inputs)
