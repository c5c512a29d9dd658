"""Learning rates over a training."""

import math

from lpaint.runtime.params import Agent, Network


def learning_rate(settings: Agent, network: Network, share: float) -> float:
    """The rate of actor or critic (``network``, its section) when a ``share`` in [0, 1] of the updates is made.

    Under ``cosine`` it falls by half a wave to 0. Under ``step`` it changes at each share of ``decay_at``: to the
    network's own next rate of ``decayed_rates``, or, where there are none, by the factor ``decay_by``.
    """
    if settings.schedule == "cosine":
        return network.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
    passed = sum(share >= decay for decay in settings.decay_at)
    if network.decayed_rates:
        return [network.learning_rate, *network.decayed_rates][passed]
    return network.learning_rate * settings.decay_by**passed
