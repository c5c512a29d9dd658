"""Experiment tracking. Training and evaluation log through the small ``Tracker`` protocol.

``base.tracking`` selects the backend: MLflow, or a file of JSON lines for machines without MLflow, which ``lpaint track
import`` imports into MLflow later.

The path of an event: ``mlflow_tracker`` logs it, ``events`` spools it to a file while the store is unavailable, and
``outbox`` flushes the file to MLflow through ``mlflow_store``. ``run_store`` reads runs back; ``registry`` promotes the
best registered model.
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
    """Yield a tracker for one stage. The run ends as FINISHED, or as KILLED or FAILED if the stage raises."""
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
