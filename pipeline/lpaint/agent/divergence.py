"""Trainings that fall apart: noticed after every round, before anything of it is kept."""

from collections.abc import Iterable

import torch
from torch import nn

from lpaint.training import distributed

# No loss, norm or value of a sound training comes near.
_LARGEST = 1e8


class DivergenceError(Exception):
    """A training fell apart; the text says in which number and when."""


class RoundMetrics:
    """What the updates of a round logged; not everything need be logged every time."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._rows: list[dict[str, torch.Tensor]] = []

    def add(self, metrics: dict[str, torch.Tensor]) -> None:
        """Scalars of the next update, still on their device."""
        self._rows.append(metrics)

    def read(self) -> dict[str, float]:
        """Means over the updates that logged a scalar, and over all ranks.

        Raises:
            DivergenceError: a value is not finite, or too large to be anything but a training that explodes.
        """
        if not self._rows:
            return {}
        names = sorted({name for row in self._rows for name in row})
        absent = torch.zeros_like(next(iter(self._rows[0].values())), dtype=torch.float32)
        # Here, and in ``check_weights``, a round waits for the device; nowhere else.
        values = torch.stack([torch.stack([row.get(name, absent).float() for name in names]) for row in self._rows])
        values = distributed.all_reduce_mean(values).cpu()
        bad = ~(values.abs() < _LARGEST)
        if bad.any():
            row, column = torch.nonzero(bad)[0].tolist()
            raise DivergenceError(f"{names[column]} was {values[row, column]:g} in update {self.first + row + 1}")
        logged = torch.tensor([[name in row for name in names] for row in self._rows])
        means = values.sum(0) / logged.sum(0)
        return dict(zip(names, means.tolist(), strict=True))


def check_weights(networks: Iterable[nn.Module], update: int) -> None:
    """See that all weights and buffers are finite after ``update``: a checkpoint must not hold others.

    Raises:
        DivergenceError: naming the kind of network that is not.
    """
    checked = list(networks)
    finite = torch.stack(
        [torch.stack([value.isfinite().all() for value in each.state_dict().values()]).all() for each in checked]
    )
    for network, fine in zip(checked, finite.tolist(), strict=True):
        if not fine:
            raise DivergenceError(f"a weight of the {type(network).__name__} was not finite after update {update}")
