"""``lpaint bench replay``: time to sample a batch and to update its priorities, by replay buffer and capacity."""

from collections.abc import Callable
from typing import Any

import torch

from lpaint.bench.timing import Report, interleaved
from lpaint.bench.training import synchronizer
from lpaint.replay import PrioritizedReplay, Transitions, UniformReplay, View
from lpaint.runtime.params import Per
from lpaint.training.device import Compute

_BATCH = 96
_CAPACITIES = {"32 k": 1 << 15, "1 M": 1 << 20}
# The smallest canvas, so that sampling is measured and not the copying of images.
_CANVAS = 1
_ACTION = (5, 13)


def bench_replay(per: Per, compute: Compute, repeats: int) -> Report:
    """Milliseconds to sample a batch and update its priorities at two capacities, and their ratio."""
    device = compute.torch_device
    rng = torch.Generator(device).manual_seed(0)
    errors = torch.rand(_BATCH, device=device)
    actions: dict[str, Callable[[], Any]] = {}
    for label, capacity in _CAPACITIES.items():
        uniform = UniformReplay(capacity, _CANVAS, _ACTION, device)
        prioritised = PrioritizedReplay(capacity, _CANVAS, _ACTION, device, alpha=per.alpha, epsilon=per.epsilon)
        for name, replay in (("uniform", uniform), ("prioritised", prioritised)):
            replay.add(_transitions(capacity, device, rng))
            actions[f"{name}, {label}"] = _step(replay, errors, rng, per.beta)
    seconds = interleaved(actions, repeats, synchronizer(compute))
    report = Report("replay", {"batch": _BATCH, "device": compute.device, "repeats": repeats})
    for name, value in seconds.items():
        report.add(name, value * 1000, "ms")
    report.add(
        "growth of prioritised from 32 k to 1 M", seconds["prioritised, 1 M"] / seconds["prioritised, 32 k"], "x"
    )
    return report


def _step(replay: UniformReplay, errors: torch.Tensor, rng: torch.Generator, beta: float) -> Callable[[], Any]:
    return lambda: replay.update_priorities(replay.sample(_BATCH, rng, beta).indices, errors)


def _transitions(count: int, device: torch.device, rng: torch.Generator) -> Transitions:
    canvas = torch.zeros(count, 3, _CANVAS, _CANVAS, dtype=torch.uint8, device=device)
    zero = torch.zeros(count, dtype=torch.int64, device=device)
    strokes = torch.zeros(count, *_ACTION, device=device)
    return Transitions(canvas, canvas, strokes, View(zero, zero, zero, zero, zero.bool()), zero)
