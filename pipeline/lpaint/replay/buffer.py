"""Replay buffers with one interface: uniform, and prioritised (Schaul et al. 2016, arXiv 1511.05952).

Canvases are stored as uint8. Targets are not stored: a ``View`` says which crop of which image to cut again.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from lpaint.replay.sum_tree import SumTree
from lpaint.training import distributed
from lpaint.training.restore import MisfitError, copy_into, entry

# Names of columns in checkpoints, where they differ from the fields of Transitions.
_SAVED_NAMES = {"obs": "before", "next_obs": "after", "action": "strokes"}


@dataclass(frozen=True)
class View:
    """References to B targets: square crops of the packed images.

    Attributes:
        image: [B] int64, row of the packed images.
        top, left: [B] int64, corner of the crop in image pixels.
        level: [B] int64, index of the zoom's scale, which gives the crop's side.
        flip: [B] bool, whether the image is mirrored left to right.
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

    Attributes:
        obs, next_obs: [B, 3, S, S] uint8, canvases before and after the action.
        action: [B, K, P], the strokes between the two canvases, in [0, 1].
        view: the targets.
        step: [B] int64, the step of ``obs`` in its episode, from 0.
    """

    obs: Tensor
    next_obs: Tensor
    action: Tensor
    view: View
    step: Tensor


@dataclass(frozen=True)
class Sample:
    """Transitions, their ``indices`` [B] in the buffer, and importance ``weights`` [B] (all 1 if uniform)."""

    transitions: Transitions
    indices: Tensor
    weights: Tensor


class UniformReplay:
    """Ring buffer with uniform sampling, with replacement.

    Args:
        capacity: maximum number of transitions.
        canvas: side S of the canvases in pixels.
        action_shape: strokes per step and parameters per stroke, (K, P).
        device: where the transitions are stored.
    """

    prioritized = False

    def __init__(
        self, capacity: int, canvas: int, action_shape: tuple[int, int], device: torch.device | str = "cpu"
    ) -> None:
        def column(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(capacity, *shape, dtype=dtype, device=device)

        self.capacity, self.device = capacity, torch.device(device)
        self.size, self.cursor = 0, 0
        self._columns = {
            "obs": column(3, canvas, canvas, dtype=torch.uint8),
            "next_obs": column(3, canvas, canvas, dtype=torch.uint8),
            "action": column(*action_shape, dtype=torch.float32),
            "step": column(dtype=torch.int64),
            "image": column(dtype=torch.int64),
            "top": column(dtype=torch.int64),
            "left": column(dtype=torch.int64),
            "level": column(dtype=torch.int64),
            "flip": column(dtype=torch.bool),
        }

    def add(self, transitions: Transitions) -> None:
        """Store B <= capacity transitions; in a full buffer they replace the oldest."""
        count = len(transitions.step)
        slots = (torch.arange(count, device=self.device) + self.cursor) % self.capacity
        view = transitions.view
        for name in ("obs", "next_obs", "action", "step"):
            self._columns[name][slots] = getattr(transitions, name)
        for field in fields(view):
            self._columns[field.name][slots] = getattr(view, field.name)
        self.cursor = (self.cursor + count) % self.capacity
        self.size = min(self.size + count, self.capacity)
        self._on_add(slots)

    def sample(self, count: int, generator: torch.Generator, beta: float = 1.0) -> Sample:
        """Sample ``count`` transitions by the buffer's own rule.

        ``beta`` in [0, 1] is the exponent of a prioritised buffer's importance weights.
        """
        return self.sample_uniformly(count, generator)

    def sample_uniformly(self, count: int, generator: torch.Generator) -> Sample:
        """Sample ``count`` transitions with equal probability."""
        indices = torch.randint(self.size, (count,), generator=generator, device=self.device)
        return self._gather(indices, torch.ones(count, device=self.device))

    def update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        """Set the priorities of ``indices`` [B] from their TD ``errors`` [B]; a uniform buffer has none."""

    def state_dict(self) -> dict[str, Any]:
        """The stored transitions and the position of the next."""
        filled = {
            _SAVED_NAMES.get(name, name): _filled_rows(values, self.size) for name, values in self._columns.items()
        }
        return {"columns": filled, "size": self.size, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state_dict``'s state into a buffer of the same capacity.

        Raises:
            MisfitError: it has other columns, canvases of another size, or more transitions than fit here.
        """
        columns, size = entry(state, "columns"), entry(state, "size")
        if size > self.capacity:
            raise MisfitError(f"it has {size} transitions, and this buffer has room for {self.capacity}")
        for name, values in self._columns.items():
            copy_into(values[:size], columns, _SAVED_NAMES.get(name, name))
        self.size, self.cursor = size, entry(state, "cursor")

    def _on_add(self, slots: Tensor) -> None:
        """Called after new transitions were stored at ``slots`` [B]."""

    def _gather(self, indices: Tensor, weights: Tensor) -> Sample:
        columns = {name: values[indices] for name, values in self._columns.items()}
        view = View(**{field.name: columns.pop(field.name) for field in fields(View)})
        return Sample(Transitions(**columns, view=view), indices, weights)


class PrioritizedReplay(UniformReplay):
    """Proportional prioritisation: P(i) = p_i^alpha / sum p^alpha, with p = |TD error| + epsilon.

    - Sampling is ``stratified``, one draw in each of B equal parts of the total (Schaul et al., section 3.3), or B
      independent draws. A transition has the same probability either way.
    - Importance weights are (1 / (N P(i)))^beta, divided by their maximum in the batch.
    - New transitions get the largest raw priority so far (alpha is applied once).
    - If a batch holds an index more than once, its largest error counts.

    Transitions of ``zero_error_step``, if it is given, have a TD error of 0 by definition (``Ddpg.zero_error_step``).
    They are not sampled, or, with ``samples_zero_error``, sampled with the priority of an error of 0, epsilon. Their
    weight is 0: it would multiply an error of 0, and as the largest weight it would scale down all others.

    Each rank of a training samples its part of a batch from a buffer of its own; N and P are those of this buffer. R
    ranks have R N transitions, each sampled with probability P / R. The maximum weight in the batch and the largest
    priority so far are over all ranks.
    """

    prioritized = True

    def __init__(
        self,
        capacity: int,
        canvas: int,
        action_shape: tuple[int, int],
        device: torch.device | str = "cpu",
        *,
        alpha: float = 0.7,
        epsilon: float = 1e-3,
        stratified: bool = True,
        zero_error_step: int | None = None,
        samples_zero_error: bool = False,
    ) -> None:
        super().__init__(capacity, canvas, action_shape, device)
        self.alpha, self.epsilon, self.stratified = alpha, epsilon, stratified
        self.zero_error_step = zero_error_step
        self._zero_error_priority = epsilon**alpha if samples_zero_error else 0.0
        self.tree = SumTree(capacity, device)
        self.max_priority = torch.ones((), dtype=torch.float64, device=self.device)

    def sample(self, count: int, generator: torch.Generator, beta: float = 1.0) -> Sample:
        quantile = torch.rand(count, dtype=torch.float64, generator=generator, device=self.device)
        if self.stratified:
            quantile = (torch.arange(count, dtype=torch.float64, device=self.device) + quantile) / count
        total = self.tree.total
        indices = self.tree.find(quantile * total)
        probability = self.tree[indices] / total
        weights = torch.where(self._has_zero_error(indices), 0.0, (self.size * probability) ** -beta)
        # If all transitions of a batch have zero error, all weights are 0.
        largest = distributed.all_reduce_max(weights.max()).clamp(min=torch.finfo(weights.dtype).tiny)
        return self._gather(indices, (weights / largest).float())

    def update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        if errors.shape != indices.shape:
            raise ValueError(
                f"errors have shape {tuple(errors.shape)}, indices {tuple(indices.shape)}; both must be [B]"
            )
        raw = errors.detach().abs().double() + self.epsilon
        self.max_priority = torch.maximum(self.max_priority, distributed.all_reduce_max(raw.max()))
        # All pairs are compared, because torch.unique would wait for the device.
        same = indices[:, None] == indices
        merged = torch.where(same, raw, 0.0).amax(1)
        self._set_priorities(indices, merged)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "nodes": self.tree.nodes, "largest": self.max_priority}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        copy_into(self.tree.nodes, state, "nodes")
        copy_into(self.max_priority, state, "largest")

    def _on_add(self, slots: Tensor) -> None:
        self._set_priorities(slots, self.max_priority)

    def _set_priorities(self, indices: Tensor, raw: Tensor) -> None:
        """Set the priorities of ``indices`` [B] to raw^alpha, except where the error is zero by definition."""
        zero_error = self._has_zero_error(indices)
        self.tree.set(indices, torch.where(zero_error, self._zero_error_priority, raw**self.alpha))

    def _has_zero_error(self, indices: Tensor) -> Tensor:
        """Whether the transitions at ``indices`` [B] have zero error by definition: [B] bool."""
        if self.zero_error_step is None:
            return torch.zeros_like(indices, dtype=torch.bool)
        return self._columns["step"][indices] == self.zero_error_step


def saved_canvas(state: Any) -> int:
    """Side of the canvases in a buffer's saved ``state``, in pixels.

    Raises:
        MisfitError: it has no canvases.
    """
    side: int = entry(entry(state, "columns"), _SAVED_NAMES["obs"]).shape[-1]
    return side


def _filled_rows(column: Tensor, size: int) -> Tensor:
    """The first ``size`` rows. If they are not all, they are copied: a view would be saved with its whole storage."""
    if size == len(column):
        return column
    return column[:size].clone() if column.device.type == "cpu" else column[:size].cpu()
