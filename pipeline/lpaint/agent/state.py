"""The state of a training, and its result."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from lpaint.agent.networks import Actor
from lpaint.data.dataset import PreparedData
from lpaint.painting.actor_spec import ActorSpec
from lpaint.runtime.params import Params
from lpaint.training.restore import entry, load_dataclass


@dataclass
class TrainState:
    """Counters and results of a training so far; part of its checkpoint.

    Attributes:
        update: updates done.
        rounds: rounds of episodes done.
        transitions: transitions collected, over all ranks.
        seconds: training time, without validation.
        rollbacks: returns to a checkpoint after a divergence.
        best_l2: lowest validation L2.
        curve: one row of figures per validation.
    """

    update: int = 0
    rounds: int = 0
    transitions: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    best_l2: float = math.inf
    curve: list[dict[str, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """All fields; ``rollbacks`` has the name ``setbacks`` in checkpoints."""
        return {"setbacks" if name == "rollbacks" else name: value for name, value in vars(self).items()}

    @classmethod
    def load(cls, state: Any, name: str) -> Self:
        """A ``TrainState`` from ``state[name]``, a saved ``state_dict``.

        Raises:
            MisfitError: the entry is missing or has unknown fields.
        """
        saved = entry(state, name)
        if isinstance(saved, Mapping):
            saved = {"rollbacks" if key == "setbacks" else key: value for key, value in saved.items()}
        return load_dataclass(cls, {name: saved}, name)


@dataclass(frozen=True)
class TrainingResult:
    """The best actor, its spec, and the final state of the training."""

    actor: Actor
    spec: ActorSpec
    progress: TrainState


def actor_spec(params: Params, data: PreparedData) -> ActorSpec:
    """The spec of the actor that ``params`` train on ``data``."""
    agent = params.agent
    return ActorSpec(
        canvas=params.stroke.canvas,
        family=params.stroke.family,
        bundle=agent.bundle,
        max_steps=agent.max_steps,
        zoom=tuple(agent.zoom),
        protocol=params.evaluate.protocol,
        fit_colours=agent.fit_colours,
        initial_canvas=agent.start,
        width=agent.actor.width,
        head=agent.actor.head,
        blocks=agent.actor.blocks,
        norm=agent.actor.norm,
        counts_steps=agent.counts_steps,
        algorithm=agent.algorithm,
        gan=agent.gan,
        replay=agent.replay,
        seed=params.base.seed,
        data_source=params.data.source,
        data_digest=data.digest,
    )
