"""Experience replay: storage and sampling, uniform or prioritised."""

import torch

from lpaint.errors import ParamsError
from lpaint.replay.buffer import PrioritizedReplay, Sample, Transitions, UniformReplay, View, saved_canvas
from lpaint.replay.sum_tree import SumTree
from lpaint.runtime.params import Per

__all__ = [
    "PrioritizedReplay",
    "Sample",
    "SumTree",
    "Transitions",
    "UniformReplay",
    "View",
    "build_replay",
    "saved_canvas",
]


def build_replay(
    kind: str,
    capacity: int,
    canvas: int,
    action_shape: tuple[int, int],
    device: torch.device,
    per: Per,
    zero_error_step: int | None = None,
) -> UniformReplay:
    """The replay buffer that ``agent.replay`` names (``uniform`` or ``prioritized``); arguments as in the classes.

    A prioritised buffer samples transitions of ``zero_error_step`` only if the actor learns on the same batch
    (``actor_sampling: shared``).

    Raises:
        ParamsError: there is no such replay.
    """
    if kind == "prioritized":
        return PrioritizedReplay(
            capacity,
            canvas,
            action_shape,
            device,
            alpha=per.alpha,
            epsilon=per.epsilon,
            stratified=per.stratified,
            zero_error_step=zero_error_step,
            samples_zero_error=per.actor_sampling == "shared",
        )
    if kind == "uniform":
        return UniformReplay(capacity, canvas, action_shape, device)
    raise ParamsError(f"agent.replay: there is no replay {kind!r}; choose uniform or prioritized")
