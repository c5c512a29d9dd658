"""Detect a diverged training after every round, before anything of the round is saved."""

from collections.abc import Iterable

import torch
from torch import nn

from lpaint.training import distributed

# Losses, norms and values of a training that converges stay far below.
_MAX_ABSOLUTE = 1e8


class DivergenceError(Exception):
    """The training diverged; the text names the number and the update."""


class RoundMetrics:
    """Metrics of the updates of one round. An update may log a subset of them.

    ``first`` is the number of updates before the round.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self._rows: list[dict[str, torch.Tensor]] = []

    def add(self, metrics: dict[str, torch.Tensor]) -> None:
        """Add the scalars of the next update, still on their device."""
        self._rows.append(metrics)

    def read(self) -> dict[str, float]:
        """Mean of each metric over the updates that logged it, and over all ranks.

        Raises:
            DivergenceError: a value is not finite, or at least 1e8 in absolute value.
        """
        if not self._rows:
            return {}
        names = sorted({name for row in self._rows for name in row})
        absent = torch.zeros_like(next(iter(self._rows[0].values())), dtype=torch.float32)
        # A round waits for the device here and in ``check_weights``, and nowhere else.
        values = torch.stack([torch.stack([row.get(name, absent).float() for name in names]) for row in self._rows])
        values = distributed.all_reduce_mean(values).cpu()
        diverged = ~(values.abs() < _MAX_ABSOLUTE)
        if diverged.any():
            row, column = torch.nonzero(diverged)[0].tolist()
            raise DivergenceError(f"{names[column]} was {values[row, column]:g} in update {self.first + row + 1}")
        logged = torch.tensor([[name in row for name in names] for row in self._rows])
        means = values.sum(0) / logged.sum(0)
        return dict(zip(names, means.tolist(), strict=True))


def check_weights(networks: Iterable[nn.Module], update: int) -> None:
    """Check that all weights and buffers are finite after ``update``, so that no checkpoint holds others.

    Raises:
        DivergenceError: one is not finite; the text names the class of its network.
    """
    checked = list(networks)
    finite = torch.stack(
        [torch.stack([value.isfinite().all() for value in each.state_dict().values()]).all() for each in checked]
    )
    for network, is_finite in zip(checked, finite.tolist(), strict=True):
        if not is_finite:
            raise DivergenceError(f"a weight of the {type(network).__name__} was not finite after update {update}")
