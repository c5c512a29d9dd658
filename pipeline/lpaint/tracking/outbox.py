"""Writing events to MLflow: single ones, or the contents of a run file.

Writing an event twice is harmless: MLflow stores a metric of the same name, step, time and value once, known parameters
are skipped, and tags and artifacts are overwritten. Images that have a step, and models, are exceptions: they
appear twice if the process is killed after writing them and before recording that.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lpaint.errors import DataError
from lpaint.tracking.events import Event, EventFile, Payload
from lpaint.tracking.mlflow_store import REGISTERED_MODEL, RunNotFoundError, StoreConnection, summarize_error

_MAX_BATCH = 1000
_MAX_PARAM_LENGTH = 500


class RejectedError(Exception):
    """MLflow rejects ``what`` for good: trying again will not help."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} was not logged: {why}")
        self.what = what


class Outbox:
    """Writes a file's events to its run in MLflow, starting where the last attempt stopped.

    Args:
        store: the connection to MLflow.
        file: the events. Progress is recorded there.
        on_rejected: called for each event that MLflow rejects; such events are skipped.
    """

    def __init__(self, store: StoreConnection, file: EventFile, on_rejected: Callable[[RejectedError], None]) -> None:
        self.store, self.file, self.run_id = store, file, ""
        self._on_rejected = on_rejected
        self._flushed = 0
        self._runs: dict[str, str] = {}

    def flush(self, seconds: float | None = None) -> bool:
        """Write all events, starting none after ``seconds``; returns whether all are written.

        Raises:
            DataError: the file is damaged, or another process flushes it.
            RunNotFoundError: the file adds to a run that is not in the store.
            Exception: whatever the store raises; earlier events are written and recorded.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        client = self.store.client()
        with self.file.locked():
            events = self._load_events(client)
            while self._flushed < len(events):
                if deadline is not None and time.monotonic() > deadline:
                    return False
                batch = _next_batch(events, self._flushed)
                self._add(client, batch)
                self._record_flushed(self._flushed + len(batch))
        return True

    def _load_events(self, client: Any) -> list[Event]:
        """Read the file's events, and find or create its run."""
        spooled = self.file.read()
        start = spooled.events[0]
        for run in {event["run"] for event in spooled.events[1:] if "run" in event} - self._runs.keys():
            self._runs[run] = self._require_run(run)
        if self.run_id:
            return spooled.events
        if spooled.mlflow_run and self.store.find_run(spooled.mlflow_run) is not None:
            self.run_id, self._flushed = spooled.mlflow_run, spooled.flushed
        else:
            self.run_id = self._require_run(start["run"]) if start.get("mlflow") else self._find_or_create_run(start)
        if not start.get("adds"):
            client.update_run(self.run_id, status="RUNNING")
        return spooled.events

    def _require_run(self, run_id: str) -> str:
        found = self.store.find_run(run_id)
        if found is None:
            raise RunNotFoundError(run_id)
        return found

    def _find_or_create_run(self, start: Event) -> str:
        found = self.store.find_run(start["run"])
        return self.store.create_run(start, origin=start["run"]) if found is None else found

    def _add(self, client: Any, batch: list[Event]) -> None:
        run_id = self._runs.get(batch[0].get("run", ""), self.run_id)
        try:
            add_events(client, run_id, batch, self._load_payload(batch[0]))
        except RejectedError as error:
            self._on_rejected(error)

    def _load_payload(self, event: Event) -> Payload | None:
        if "file" not in event:
            return None
        path: Path = self.file.folder / event["file"]
        if not path.is_file():
            raise DataError(f"{path}: is missing; copy the folder that is beside the run's file, too")
        if event["event"] != "image":
            return path
        # Imported here: stages import this module, but do not depend on image decoding.
        from lpaint.images.decoding import open_png

        return open_png(path)

    def _record_flushed(self, count: int) -> None:
        self._flushed = count
        # Files on read-only media can be imported, too.
        with suppress(OSError):
            self.file.record_flushed(self.run_id, count)


def add_events(client: Any, run_id: str, batch: list[Event], payload: Payload | None = None) -> None:
    """Add an event, or several metrics events, to a run.

    Raises:
        RejectedError: MLflow rejects the event, or one of its values; all others are written.
        Exception: whatever else the store raises.
    """
    from mlflow.exceptions import MlflowException

    try:
        _add(client, run_id, batch, payload)
    except MlflowException as error:
        if error.error_code not in ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"):
            raise
        # MLflow rejects a whole call for one bad value, so write the values one by one.
        singles = [
            {**event, "values": {name: value}} for event in batch for name, value in event.get("values", {}).items()
        ]
        if len(singles) < 2:
            raise RejectedError(_describe(batch[0]), summarize_error(error)) from None
        _add_singly(client, run_id, singles)


def _add_singly(client: Any, run_id: str, events: list[Event]) -> None:
    refusal = None
    for event in events:
        try:
            add_events(client, run_id, [event])
        except RejectedError as error:
            refusal = error
    if refusal is not None:
        raise refusal


def _add(client: Any, run_id: str, batch: list[Event], payload: Payload | None) -> None:
    event = batch[0]
    kind = event["event"]
    if kind == "metrics":
        _add_metrics(client, run_id, batch)
    elif kind == "start":
        _add_params(client, run_id, event["params"])
    elif kind == "params":
        _add_params(client, run_id, event["values"])
    elif kind == "tags":
        for name, value in event["values"].items():
            client.set_tag(run_id, name, value)
    elif kind == "image":
        _add_image(client, run_id, event, payload)
    elif kind == "artifact":
        client.log_artifact(run_id, str(payload), event["folder"] or None)
    elif kind == "model":
        _add_model(run_id, event, payload)
    elif kind == "end":
        client.set_terminated(run_id, event["status"], event["time"])


def _next_batch(events: list[Event], at: int) -> list[Event]:
    """The event at index ``at``, and the metrics events after it that fit in the same call."""
    first = events[at]
    end, rows = at + 1, len(first.get("values", ()))
    while first["event"] == "metrics" and end < len(events) and rows < _MAX_BATCH:
        event = events[end]
        if event["event"] != "metrics" or event.get("run") != first.get("run"):
            break
        end, rows = end + 1, rows + len(event["values"])
    return events[at:end]


def _add_metrics(client: Any, run_id: str, batch: list[Event]) -> None:
    from mlflow.entities import Metric

    rows = [
        Metric(name, value, event["time"], event["step"]) for event in batch for name, value in event["values"].items()
    ]
    for at in range(0, len(rows), _MAX_BATCH):
        client.log_batch(run_id, metrics=rows[at : at + _MAX_BATCH])


def _add_params(client: Any, run_id: str, params: dict[str, str]) -> None:
    """Log new parameters. MLflow's parameters cannot change, so known ones are skipped."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params if params else {}
    fresh = [Param(name, str(value)[:_MAX_PARAM_LENGTH]) for name, value in params.items() if name not in known]
    for at in range(0, len(fresh), 100):
        client.log_batch(run_id, params=fresh[at : at + 100])


def _add_image(client: Any, run_id: str, event: Event, image: Payload | None) -> None:
    if event["step"] is None:
        client.log_image(run_id, image, artifact_file=f"images/{event['name']}.png")
    else:
        client.log_image(run_id, image, key=event["name"], step=event["step"], timestamp=event["time"])


def _add_model(run_id: str, event: Event, path: Payload | None) -> None:
    import mlflow.onnx
    import onnx
    from google.protobuf.message import DecodeError
    from mlflow.models import Model

    try:
        model = onnx.load(str(path))
    except DecodeError:
        raise RejectedError(str(path), "it is not an ONNX model") from None
    # mlflow.onnx.log_model needs an active run, whose status and end time it would change. This does not.
    Model.log(
        artifact_path=None,
        name=event["name"],
        flavor=mlflow.onnx,
        run_id=run_id,
        registered_model_name=REGISTERED_MODEL if event["register"] else None,
        onnx_model=model,
        pip_requirements=["onnxruntime-gpu", "numpy"],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )


def _describe(event: Event) -> str:
    names = ", ".join(event.get("values", ())) or event.get("name", "")
    return f"{event['event']} {names}".strip()
