"""What a neural renderer is taught to minimise, by name."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def _l1(logits: Tensor, teacher: Tensor) -> Tensor:
    return F.l1_loss(torch.sigmoid(logits), teacher)


def _l2(logits: Tensor, teacher: Tensor) -> Tensor:
    return F.mse_loss(torch.sigmoid(logits), teacher)


def _mixed(logits: Tensor, teacher: Tensor) -> Tensor:
    return _l1(logits, teacher) + _l2(logits, teacher)


def _edge(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy in which pixels beside an edge of the teacher's weigh up to four times as much."""
    spread = F.max_pool2d(teacher[:, None], 3, 1, 1) + F.max_pool2d(-teacher[:, None], 3, 1, 1)
    return F.binary_cross_entropy_with_logits(logits, teacher, weight=1 + 3 * spread[:, 0])


_LOSSES: dict[str, Loss] = {
    "cross_entropy": F.binary_cross_entropy_with_logits,
    "l1": _l1,
    "l2": _l2,
    "mixed": _mixed,
    "edge": _edge,
}


def loss_names() -> list[str]:
    """Names of the registered losses."""
    return sorted(_LOSSES)


def get_loss(name: str) -> Loss:
    """The loss registered as ``name``: (logits [N, S, S], the teacher's opacity [N, S, S]) -> scalar."""
    return _LOSSES[name]
