"""Bringing runs that were tracked in files of JSON lines into MLflow."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lpaint.errors import DataError
from lpaint.tracking.jsonl import SCHEMA
from lpaint.tracking.mlflow_store import MlflowTracker
from lpaint.tracking.reading import RunStore

_ORIGIN = "lpaint.imported_from"


def import_runs(paths: Iterable[Path]) -> list[tuple[Path, str, bool]]:
    """Make an MLflow run of each file; files that build on each other's runs stay linked, in whatever order they come.

    Times, steps and statuses are those of the file. A file whose run is in MLflow already is left alone. A last line
    that a killed process left unfinished is ignored.

    Returns:
        For each file its path, its run's id in MLflow, and whether it was imported now.

    Raises:
        DataError: a file is missing or was not written by ``JsonlTracker``, or MLflow's store cannot be written.
    """
    runs = sorted(((path, _read(path)) for path in paths), key=lambda run: run[1][0]["time"])
    store = RunStore(create=True)
    return [(path, *_import_one(store, path, events)) for path, events in runs]


def _import_one(store: RunStore, path: Path, events: list[dict[str, Any]]) -> tuple[str, bool]:
    start = events[0]
    known = store.find_by_tag(_ORIGIN, start["run"])
    if known is not None:
        return known, False
    tags = {name: _translated(store, name, value) for name, value in start["tags"].items()}
    tracker = MlflowTracker(start["stage"], start["params"], tags | {_ORIGIN: start["run"]}, began=start["time"])
    # What a run adds to another one, that was never imported, has nowhere to go.
    trackers: dict[str, MlflowTracker | None] = {start["run"]: tracker}
    status, ended = "KILLED", events[-1]["time"]
    for event in events[1:]:
        run = event.get("run", start["run"])
        if run not in trackers:
            other = store.find_by_tag(_ORIGIN, run)
            trackers[run] = None if other is None else MlflowTracker(start["stage"], {}, {}, other)
        target = trackers[run]
        if event["event"] == "end":
            status = event["status"]
        elif target is not None:
            _replay(target, path.with_suffix(""), event)
    for target in trackers.values():
        if target is not None:
            target.flush()
    tracker.end(status, ended)
    if tracker.failure:
        raise DataError(f"{path}: could not be brought into MLflow ({tracker.failure}); mend the store and try again")
    return tracker.run_id, True


def _replay(tracker: MlflowTracker, folder: Path, event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "metrics":
        tracker.log_metrics(event["values"], event["step"], event["time"])
    elif kind == "params":
        tracker.log_params(event["values"])
    elif kind == "tags":
        tracker.set_tags(event["values"])
    elif kind in ("image", "artifact", "model"):
        file = folder / event["file"]
        if not file.is_file():
            raise DataError(f"{file}: is missing; bring the folder along that lies beside the file of the run")
        if kind == "image":
            tracker.log_image(event["name"], np.asarray(Image.open(file).convert("RGB")), event["step"])
        elif kind == "artifact":
            tracker.log_artifact(file, event["folder"])
        else:
            tracker.log_onnx_model(file, event["name"], event["register"])


def _translated(store: RunStore, name: str, value: str) -> str:
    """A tag's value; the id of a run that was imported becomes its id in MLflow."""
    return (store.find_by_tag(_ORIGIN, value) or value) if name.startswith("upstream.") else value


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is no text"
        raise DataError(f"{path}: cannot be read ({reason}); give a .jsonl of .lpaint/tracking") from None
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            event["event"], event["time"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and number > 1:
                break
            raise DataError(f"{path}: line {number} is no event of a tracked run; mend or remove it") from None
        events.append(event)
    if not events or events[0]["event"] != "start" or events[0].get("schema") != SCHEMA:
        raise DataError(f"{path}: does not begin like a tracked run of this version; give a .jsonl of .lpaint/tracking")
    return events
