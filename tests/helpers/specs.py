"""A small actor's spec."""

from typing import Any

from lpaint.painting.actor_spec import ActorSpec

SETTINGS: dict[str, Any] = {
    "canvas": 16,
    "family": "bezier",
    "bundle": 2,
    "max_steps": 3,
    "zoom": (1, 2),
    "fit_colours": "rollouts",
    "initial_canvas": "mean",
    "width": 4,
    "head": "pooled",
    "blocks": 2,
    "algorithm": "ddpg",
    "gan": "none",
    "replay": "uniform",
    "seed": 0,
    "data_source": "synthetic",
    "data_digest": "d",
}


def tiny_spec(**changes: Any) -> ActorSpec:
    """``SETTINGS`` with ``changes``."""
    return ActorSpec(**SETTINGS | changes)
