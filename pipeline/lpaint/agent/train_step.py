"""One training step: sample from the replay, update the agent, update the priorities."""

import torch

from lpaint.agent.batch import load_batch
from lpaint.agent.ddpg import Ddpg, Metrics
from lpaint.agent.targets import TargetSampler
from lpaint.replay import UniformReplay


def train_step(
    agent: Ddpg, replay: UniformReplay, targets: TargetSampler, rng: torch.Generator, beta: float
) -> Metrics:
    """Update ``agent`` once on a batch from ``replay``; returns scalars to log, still on the device.

    The actor learns on the critic's batch, or on a uniform one of its own (``per.actor_sampling: uniform``).

    Args:
        agent: the networks and the update rule.
        replay: holds the transitions; the TD errors become their priorities.
        targets: cuts the target images of the batch, at the size of the replay's canvases.
        rng: the random stream of the training.
        beta: exponent of the importance weights, in [0, 1].
    """
    size = agent.settings.batch_size
    sample = replay.sample(size, rng, beta)
    batch = actor_batch = load_batch(sample, targets)
    if replay.prioritized and agent.settings.per.actor_sampling == "uniform":
        actor_batch = load_batch(replay.sample_uniformly(size, rng), targets)
    td_errors, metrics = agent.update(batch, actor_batch, rng)
    if td_errors is not None:
        replay.update_priorities(sample.indices, td_errors)
    return metrics
