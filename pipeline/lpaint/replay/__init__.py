"""Experience replay: storage, and the rules by which it is sampled."""

import torch

from lpaint.errors import ParamsError
from lpaint.replay.buffer import PrioritizedReplay, Sample, Transitions, UniformReplay, View
from lpaint.replay.sum_tree import SumTree
from lpaint.runtime.params import Per

__all__ = ["PrioritizedReplay", "Sample", "SumTree", "Transitions", "UniformReplay", "View", "build_replay"]


def build_replay(
    kind: str,
    capacity: int,
    canvas: int,
    action: tuple[int, int],
    device: torch.device,
    per: Per,
    errorless_step: int | None = None,
) -> UniformReplay:
    """The replay buffer that ``agent.replay`` names (``uniform`` or ``prioritized``).

    Transitions of ``errorless_step`` have a temporal-difference error of 0 by definition. A prioritised buffer draws
    none of them, unless the actor learns on the same draw (``actor_sampling: shared``).

    Raises:
        ParamsError: there is no such replay.
    """
    if kind == "prioritized":
        return PrioritizedReplay(
            capacity,
            canvas,
            action,
            device,
            alpha=per.alpha,
            epsilon=per.epsilon,
            stratified=per.stratified,
            errorless_step=errorless_step,
            draws_errorless=per.actor_sampling == "shared",
        )
    if kind == "uniform":
        return UniformReplay(capacity, canvas, action, device)
    raise ParamsError(f"agent.replay: there is no replay {kind!r}; choose uniform or prioritized")
