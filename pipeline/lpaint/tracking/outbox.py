"""Bringing events into MLflow: one at a time, or all that a file has kept.

What is delivered twice does no harm: MLflow stores a metric of the same name, step, time and value once; a parameter
that a run has is left alone; tags and artifacts replace themselves. A picture of a step and a model have no such name:
where a process is killed between delivering one and noting it, it is there twice.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lpaint.errors import DataError
from lpaint.tracking.events import Event, EventFile, Payload
from lpaint.tracking.mlflow_store import REGISTERED_MODEL, RunMissingError, Store, reason

_LARGEST_BATCH = 1000
_LONGEST_PARAM = 500


class RefusedError(Exception):
    """MLflow will never take ``what``, however often it is asked."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} is left out: {why}")
        self.what = what


class Replay:
    """Brings what a file keeps into its run, from where the last attempt stopped.

    Args:
        store: where to.
        file: what to deliver. What was delivered is noted there.
        refused: told of every event that MLflow will not take; it is passed over.
    """

    def __init__(self, store: Store, file: EventFile, refused: Callable[[RefusedError], None]) -> None:
        self.store, self.file, self.run_id = store, file, ""
        self._refused = refused
        self._done = 0
        self._runs: dict[str, str] = {}

    def deliver(self, seconds: float | None = None) -> bool:
        """Deliver everything, or what can be begun in so many seconds; whether all is delivered.

        Raises:
            DataError: the file is damaged, or another process delivers it.
            RunMissingError: it adds to a run that is not in the store.
            Anything that the store raises: what came before is delivered and noted.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        client = self.store.client()
        with self.file.alone():
            events = self._open(client)
            while self._done < len(events):
                if deadline is not None and time.monotonic() > deadline:
                    return False
                batch = _next_batch(events, self._done)
                self._add(client, batch)
                self._note(self._done + len(batch))
        return True

    def _open(self, client: Any) -> list[Event]:
        """Find or make the run; the file's events."""
        kept = self.file.read()
        start = kept.events[0]
        for run in {event["run"] for event in kept.events[1:] if "run" in event} - self._runs.keys():
            self._runs[run] = self._existing(run)
        if self.run_id:
            return kept.events
        if kept.run and self.store.find(kept.run) is not None:
            self.run_id, self._done = kept.run, kept.count
        else:
            self.run_id = self._existing(start["run"]) if start.get("mlflow") else self._found_or_made(start)
        if not start.get("adds"):
            client.update_run(self.run_id, status="RUNNING")
        return kept.events

    def _existing(self, run_id: str) -> str:
        found = self.store.find(run_id)
        if found is None:
            raise RunMissingError(run_id)
        return found

    def _found_or_made(self, start: Event) -> str:
        found = self.store.find(start["run"])
        return self.store.create_run(start, origin=start["run"]) if found is None else found

    def _add(self, client: Any, batch: list[Event]) -> None:
        run_id = self._runs.get(batch[0].get("run", ""), self.run_id)
        try:
            add_events(client, run_id, batch, self._payload(batch[0]))
        except RefusedError as error:
            self._refused(error)

    def _payload(self, event: Event) -> Payload | None:
        if "file" not in event:
            return None
        path: Path = self.file.folder / event["file"]
        if not path.is_file():
            raise DataError(f"{path}: is missing; bring the folder along that lies beside the file of the run")
        if event["event"] != "image":
            return path
        # Imported here: stages import this module, but what decodes pictures is no part of them.
        from lpaint.images.decoding import open_png

        return open_png(path)

    def _note(self, count: int) -> None:
        self._done = count
        # A file on a medium that cannot be written is read, too.
        with suppress(OSError):
            self.file.note_delivered(self.run_id, count)


def add_events(client: Any, run_id: str, batch: list[Event], payload: Payload | None = None) -> None:
    """Add an event, or several of metrics, to a run.

    Raises:
        RefusedError: MLflow will never take it, or one of its values; all others are there.
        Anything else that the store raises.
    """
    from mlflow.exceptions import MlflowException

    try:
        _add(client, run_id, batch, payload)
    except MlflowException as error:
        if error.error_code not in ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"):
            raise
        # One bad value has all of a call refused.
        singles = [
            {**event, "values": {name: value}} for event in batch for name, value in event.get("values", {}).items()
        ]
        if len(singles) < 2:
            raise RefusedError(_named(batch[0]), reason(error)) from None
        _add_singly(client, run_id, singles)


def _add_singly(client: Any, run_id: str, events: list[Event]) -> None:
    refusal = None
    for event in events:
        try:
            add_events(client, run_id, [event])
        except RefusedError as error:
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
    """The event at ``at``, and those after it that go in the same call."""
    first = events[at]
    end, rows = at + 1, len(first.get("values", ()))
    while first["event"] == "metrics" and end < len(events) and rows < _LARGEST_BATCH:
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
    for at in range(0, len(rows), _LARGEST_BATCH):
        client.log_batch(run_id, metrics=rows[at : at + _LARGEST_BATCH])


def _add_params(client: Any, run_id: str, params: dict[str, str]) -> None:
    """Parameters not logged before; a run's parameters cannot change, so known ones are left alone."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params if params else {}
    fresh = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in params.items() if name not in known]
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
        raise RefusedError(str(path), "it is no ONNX model") from None
    # As mlflow.onnx.log_model does, but for a run that is not active: a run that is made active ends with its own
    # status and time afterwards, and as failed where the model cannot be logged.
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


def _named(event: Event) -> str:
    names = ", ".join(event.get("values", ())) or event.get("name", "")
    return f"{event['event']} {names}".strip()
