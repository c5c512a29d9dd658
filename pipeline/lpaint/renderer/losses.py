"""Losses between a neural renderer's logits and the exact opacity, by name."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def _l1(logits: Tensor, exact: Tensor) -> Tensor:
    return F.l1_loss(torch.sigmoid(logits), exact)


def _l2(logits: Tensor, exact: Tensor) -> Tensor:
    return F.mse_loss(torch.sigmoid(logits), exact)


def _mixed(logits: Tensor, exact: Tensor) -> Tensor:
    return _l1(logits, exact) + _l2(logits, exact)


def _edge(logits: Tensor, exact: Tensor) -> Tensor:
    """Cross-entropy that weights pixels beside an edge of the exact opacity up to four times as much."""
    contrast = F.max_pool2d(exact[:, None], 3, 1, 1) + F.max_pool2d(-exact[:, None], 3, 1, 1)
    return F.binary_cross_entropy_with_logits(logits, exact, weight=1 + 3 * contrast[:, 0])


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
    """The loss registered as ``name``: (logits [N, S, S], exact opacity [N, S, S]) -> scalar."""
    return _LOSSES[name]
