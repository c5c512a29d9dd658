"""Experience replay: storage, and the rules by which it is sampled."""

import torch

from lpaint.params import Per
from lpaint.replay.buffer import PrioritizedReplay, Sample, Transitions, UniformReplay, View
from lpaint.replay.sum_tree import SumTree

__all__ = ["PrioritizedReplay", "Sample", "SumTree", "Transitions", "UniformReplay", "View", "build_replay"]


def build_replay(kind: str, capacity: int, canvas: int, device: torch.device, per: Per) -> UniformReplay:
    """The replay buffer that ``agent.replay`` names (``uniform`` or ``prioritized``)."""
    if kind == "prioritized":
        return PrioritizedReplay(capacity, canvas, device, alpha=per.alpha, epsilon=per.epsilon)
    return UniformReplay(capacity, canvas, device)
