"""Replay buffers: uniform, and prioritised after Schaul et al. 2016 (arXiv 1511.05952), behind one interface.

Canvases are kept as uint8; targets are not kept at all but cut again from the data set by image and box.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from lpaint.replay.sum_tree import SumTree
from lpaint.training import distributed
from lpaint.training.restore import MisfitError, copy_into, entry


@dataclass(frozen=True)
class View:
    """Which part of which picture each of B environments paints: the target of a transition, by reference.

    ``image`` [B] int64, row of the packed images; ``top`` and ``left`` [B] int64, corner of the square crop in pixels;
    ``level`` [B] int64, index into the zoom's scales, which gives the side; ``flip`` [B] bool, mirrored left to right.
    """

    image: Tensor
    top: Tensor
    left: Tensor
    level: Tensor
    flip: Tensor

    def __getitem__(self, indices: Tensor) -> Self:
        return type(self)(*(getattr(self, field.name)[indices] for field in fields(self)))

    def to(self, device: torch.device) -> Self:
        """The same on ``device``."""
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Transitions:
    """B steps of painting.

    Canvases ``before`` and ``after`` [B, 3, S, S] uint8, the ``strokes`` [B, K, P] in [0, 1] laid between them, and
    ``step`` [B] int64, of the state before.
    """

    before: Tensor
    after: Tensor
    strokes: Tensor
    view: View
    step: Tensor


@dataclass(frozen=True)
class Sample:
    """Transitions with their ``indices`` [B] in the buffer and importance ``weights`` [B] (all 1 if drawn evenly)."""

    transitions: Transitions
    indices: Tensor
    weights: Tensor


class UniformReplay:
    """Ring buffer drawn from evenly, with replacement.

    Args:
        capacity: most transitions.
        canvas: side S of the canvases in pixels.
        action: strokes of a step and numbers of a stroke, (K, P).
        device: where the transitions are kept.
    """

    prioritized = False

    def __init__(self, capacity: int, canvas: int, action: tuple[int, int], device: torch.device | str = "cpu") -> None:
        def column(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(capacity, *shape, dtype=dtype, device=device)

        self.capacity, self.device = capacity, torch.device(device)
        self.size, self.cursor = 0, 0
        self._columns = {
            "before": column(3, canvas, canvas, dtype=torch.uint8),
            "after": column(3, canvas, canvas, dtype=torch.uint8),
            "strokes": column(*action, dtype=torch.float32),
            "step": column(dtype=torch.int64),
            "image": column(dtype=torch.int64),
            "top": column(dtype=torch.int64),
            "left": column(dtype=torch.int64),
            "level": column(dtype=torch.int64),
            "flip": column(dtype=torch.bool),
        }

    def add(self, transitions: Transitions) -> None:
        """Store B <= capacity transitions over the oldest ones."""
        count = len(transitions.step)
        slots = (torch.arange(count, device=self.device) + self.cursor) % self.capacity
        view = transitions.view
        for name, values in {
            "before": transitions.before,
            "after": transitions.after,
            "strokes": transitions.strokes,
            "step": transitions.step,
        }.items():
            self._columns[name][slots] = values
        for field in fields(view):
            self._columns[field.name][slots] = getattr(view, field.name)
        self.cursor = (self.cursor + count) % self.capacity
        self.size = min(self.size + count, self.capacity)
        self._stored(slots)

    def sample(self, count: int, generator: torch.Generator, beta: float = 1.0) -> Sample:
        """Draw ``count`` transitions by the buffer's own rule; ``beta`` in [0, 1] matters to prioritised ones only."""
        return self.sample_evenly(count, generator)

    def sample_evenly(self, count: int, generator: torch.Generator) -> Sample:
        """Draw ``count`` transitions with equal probability, whatever their priorities."""
        indices = torch.randint(self.size, (count,), generator=generator, device=self.device)
        return self._gather(indices, torch.ones(count, device=self.device))

    def update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        """Tell the buffer the temporal-difference ``errors`` [B] found at ``indices`` [B]; here it does not care."""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on as if never stopped."""
        filled = {name: _filled(values, self.size) for name, values in self._columns.items()}
        return {"columns": filled, "size": self.size, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state into a buffer of the same capacity.

        Raises:
            MisfitError: it is of a buffer of other columns, another canvas or a larger capacity.
        """
        columns, size = entry(state, "columns"), entry(state, "size")
        if size > self.capacity:
            raise MisfitError(f"{size} transitions are there, and only {self.capacity} have room here")
        for name, values in self._columns.items():
            copy_into(values[:size], columns, name)
        self.size, self.cursor = size, entry(state, "cursor")

    def _stored(self, slots: Tensor) -> None:
        """Called after new transitions took ``slots`` [B]."""

    def _gather(self, indices: Tensor, weights: Tensor) -> Sample:
        columns = {name: values[indices] for name, values in self._columns.items()}
        view = View(**{field.name: columns.pop(field.name) for field in fields(View)})
        return Sample(Transitions(**columns, view=view), indices, weights)


class PrioritizedReplay(UniformReplay):
    """Proportional prioritisation: P(i) = p_i^alpha / sum p^alpha, with p = |TD error| + epsilon.

    Sampling is ``stratified``, one draw in each of B equal parts of the total (Schaul et al., section 3.3), or B
    independent draws; either takes a transition with the same probability. Weights are (1 / (N P(i)))^beta over their
    maximum *in the batch*. New transitions enter with the largest raw priority seen so far (alpha is applied once). Of
    an index that a batch holds more than once, the largest of its errors is taken.

    Transitions of the step ``errorless_step``, if that is given, have a temporal-difference error of 0 by definition
    (see ``Ddpg.errorless_step``). They are never drawn; or, where the actor needs them (``draws_errorless``), with the
    priority that such an error has, epsilon. Their weight is 0: it would multiply an error of 0, and, being the largest
    there can be, it would scale all others down.

    Each rank of a training draws its share of a batch from a buffer of its own by the priorities in it, so that N and P
    are that buffer's: with R ranks the whole has R N transitions, each drawn with probability P / R. The maximum in the
    batch and the largest priority so far are over all ranks.
    """

    prioritized = True

    def __init__(
        self,
        capacity: int,
        canvas: int,
        action: tuple[int, int],
        device: torch.device | str = "cpu",
        *,
        alpha: float = 0.7,
        epsilon: float = 1e-3,
        stratified: bool = True,
        errorless_step: int | None = None,
        draws_errorless: bool = False,
    ) -> None:
        super().__init__(capacity, canvas, action, device)
        self.alpha, self.epsilon, self.stratified = alpha, epsilon, stratified
        self.errorless_step = errorless_step
        self._errorless_priority = epsilon**alpha if draws_errorless else 0.0
        self.tree = SumTree(capacity, device)
        self.largest = torch.ones((), dtype=torch.float64, device=self.device)

    def sample(self, count: int, generator: torch.Generator, beta: float = 1.0) -> Sample:
        """Draw ``count`` transitions in proportion to priority."""
        place = torch.rand(count, dtype=torch.float64, generator=generator, device=self.device)
        if self.stratified:
            place = (torch.arange(count, dtype=torch.float64, device=self.device) + place) / count
        total = self.tree.total
        indices = self.tree.find(place * total)
        probability = self.tree[indices] / total
        weights = torch.where(self._errorless(indices), 0.0, (self.size * probability) ** -beta)
        # A batch may hold errorless transitions alone; then there is nothing to scale.
        largest = distributed.all_reduce_max(weights.max()).clamp(min=torch.finfo(weights.dtype).tiny)
        return self._gather(indices, (weights / largest).float())

    def update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        """Set priorities from temporal-difference ``errors`` [B] at ``indices`` [B]."""
        if errors.shape != indices.shape:
            raise ValueError(
                f"errors have shape {tuple(errors.shape)}, indices {tuple(indices.shape)}; both must be [B]"
            )
        raw = errors.detach().abs().double() + self.epsilon
        self.largest = torch.maximum(self.largest, distributed.all_reduce_max(raw.max()))
        # All pairs of a batch are few, and nothing here has to wait for the device to count what is unique.
        same = indices[:, None] == indices
        merged = torch.where(same, raw, 0.0).amax(1)
        self.tree.set(indices, torch.where(self._errorless(indices), self._errorless_priority, merged**self.alpha))

    def state_dict(self) -> dict[str, Any]:
        """The uniform buffer's state and the priorities."""
        return {**super().state_dict(), "nodes": self.tree.nodes, "largest": self.largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state."""
        super().load_state_dict(state)
        copy_into(self.tree.nodes, state, "nodes")
        copy_into(self.largest, state, "largest")

    def _stored(self, slots: Tensor) -> None:
        self.tree.set(slots, torch.where(self._errorless(slots), self._errorless_priority, self.largest**self.alpha))

    def _errorless(self, indices: Tensor) -> Tensor:
        """Which of the transitions at ``indices`` [B] have no error by definition: [B] bool."""
        if self.errorless_step is None:
            return torch.zeros_like(indices, dtype=torch.bool)
        return self._columns["step"][indices] == self.errorless_step


def _filled(column: Tensor, size: int) -> Tensor:
    """The first ``size`` rows, on the CPU where they are not all: a view would be saved with its whole storage."""
    if size == len(column):
        return column
    return column[:size].clone() if column.device.type == "cpu" else column[:size].cpu()
