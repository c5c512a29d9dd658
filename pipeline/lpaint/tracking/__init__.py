"""Tracked runs. Training and evaluation log through the small ``Tracker`` protocol and know nothing of what keeps it.

``base.tracking`` chooses: MLflow, or a file of JSON lines for machines that have no MLflow (``lpaint track import``
brings it into MLflow afterwards).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lpaint.runtime.params import Params
from lpaint.runtime.provenance import run_tags
from lpaint.tracking.base import FINAL_VALIDATION, NullTracker, Tracker
from lpaint.tracking.jsonl import JsonlTracker
from lpaint.tracking.mlflow_tracker import MlflowTracker

__all__ = ["FINAL_VALIDATION", "JsonlTracker", "MlflowTracker", "NullTracker", "Tracker", "start_run"]


@contextmanager
def start_run(stage: str, params: Params) -> Iterator[Tracker]:
    """A tracker for one stage; its run ends FINISHED, or FAILED or KILLED with the exception that ends the stage."""
    kind = JsonlTracker if params.base.tracking == "jsonl" else MlflowTracker
    tracker = kind(stage, _flatten(params), run_tags(stage))
    try:
        yield tracker
    except KeyboardInterrupt:
        tracker.end("KILLED")
        raise
    except BaseException:
        tracker.end("FAILED")
        raise
    tracker.end("FINISHED")


def _flatten(params: Params) -> dict[str, Any]:
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value

    walk("", params.model_dump(by_alias=True))
    agent = params.agent
    return flat | {"gan": agent.gan, "replay": agent.replay, "algorithm": agent.algorithm, "seed": params.base.seed}
