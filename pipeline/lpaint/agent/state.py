"""Where a training stands, and what it leaves."""

import math
from dataclasses import dataclass, field
from typing import Any

from lpaint.agent.networks import Actor
from lpaint.data.dataset import PreparedData
from lpaint.runtime.params import Params


@dataclass
class Progress:
    """Where a training stands; part of its checkpoint."""

    update: int = 0
    rounds: int = 0
    transitions: int = 0
    seconds: float = 0.0
    setbacks: int = 0
    best_l2: float = math.inf
    curve: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingResult:
    """What a training leaves: the best actor's weights, its curve, and the settings to rebuild it from."""

    actor: Actor
    settings: dict[str, Any]
    progress: Progress


def actor_settings(params: Params, data: PreparedData) -> dict[str, Any]:
    """What an actor's weights file says of itself."""
    agent = params.agent
    return {
        "canvas": params.stroke.canvas,
        "family": params.stroke.family,
        "bundle": agent.bundle,
        "max_steps": agent.max_steps,
        "zoom": agent.zoom,
        "protocol": params.evaluate.protocol,
        "fit_colours": agent.fit_colours,
        "start": agent.start,
        "width": agent.actor.width,
        "head": agent.actor.head,
        "blocks": agent.actor.blocks,
        "norm": agent.actor.norm,
        "counts_steps": agent.counts_steps,
        "algorithm": agent.algorithm,
        "gan": agent.gan,
        "replay": agent.replay,
        "seed": params.base.seed,
        "data_source": params.data.source,
        "data_digest": data.digest,
    }
