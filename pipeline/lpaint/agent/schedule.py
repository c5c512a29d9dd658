"""Learning rate schedules."""

import math

from lpaint.runtime.params import Agent, Network


def learning_rate(settings: Agent, network: Network, completed: float) -> float:
    """The learning rate of actor or critic (``network``, its section) when ``completed`` of the updates are done.

    ``cosine``: the rate falls to 0 along half a cosine. ``step``: the rate changes at each fraction of ``decay_at``, to
    the network's next rate of ``decayed_rates``, or by the factor ``decay_by`` where it has none.

    Args:
        settings: the ``agent`` section.
        network: ``settings.actor`` or ``settings.critic``.
        completed: fraction of the training's updates that are done, in [0, 1].
    """
    if settings.schedule == "cosine":
        return network.learning_rate * 0.5 * (1 + math.cos(math.pi * completed))
    passed = sum(completed >= decay for decay in settings.decay_at)
    if network.decayed_rates:
        return [network.learning_rate, *network.decayed_rates][passed]
    return network.learning_rate * settings.decay_by**passed
