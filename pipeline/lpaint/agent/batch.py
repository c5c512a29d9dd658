"""Batches: transitions on the device, as the networks see them."""

from dataclasses import dataclass

from torch import Tensor

from lpaint.agent.targets import TargetSampler
from lpaint.replay import Sample


@dataclass(frozen=True)
class Batch:
    """B transitions as float tensors.

    Attributes:
        obs, next_obs: [B, 3, S, S], canvases before and after the action, in [0, 1].
        target: [B, 3, S, S], the images to paint, in [0, 1].
        action: [B, K, P], the strokes between the two canvases, in [0, 1].
        step: [B] int64, the step of ``obs`` in its episode, from 0.
        weights: [B], importance weights in [0, 1].
    """

    obs: Tensor
    next_obs: Tensor
    target: Tensor
    action: Tensor
    step: Tensor
    weights: Tensor


def load_batch(sample: Sample, targets: TargetSampler) -> Batch:
    """Convert a replay sample to a batch; its targets are cut from the images again."""
    transitions = sample.transitions
    obs, next_obs = (canvas.float() / 255 for canvas in (transitions.obs, transitions.next_obs))
    target = targets.load_targets(transitions.view)
    return Batch(obs, next_obs, target, transitions.action, transitions.step, sample.weights)
