"""Tracking in MLflow, whose store may be unavailable for a while.

A run starts with the first logged event, or when ``resume_from`` finds the run of an interrupted training. Tracking
never stops a stage. While the store is unavailable, events are spooled to a file (``events``) with their times. The
store is tried again with exponential backoff, and the outbox is flushed when it answers. At the end of the stage,
remaining events stay in the file, for ``lpaint track import``.
"""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lpaint.files import write_text
from lpaint.runtime.messages import notify
from lpaint.tracking.base import NullTracker, Tracker
from lpaint.tracking.events import Event, EventFile, Payload, now, start_event, tracking_file
from lpaint.tracking.mlflow_store import RunNotFoundError, StoreConnection, StoreUnavailableError
from lpaint.tracking.outbox import Outbox, RejectedError, add_events

_FLUSH_VALUES = 200
_FLUSH_SECONDS = 10.0
# Seconds that one flush of the outbox may take, during the stage and at its end.
_FLUSH_TIMEOUT = 3.0
_FINAL_FLUSH_TIMEOUT = 60.0


class MlflowTracker:
    """Logs to the store of ``MLFLOW_TRACKING_URI``, or to ``mlflow.db`` in the repository's root.

    ``adds_to``: id of another stage's finished run, whose status does not change; see ``Tracker.for_run``.
    """

    def __init__(
        self,
        stage: str,
        params: dict[str, Any],
        tags: dict[str, str],
        adds_to: str = "",
        store: StoreConnection | None = None,
    ) -> None:
        self.stage, self.run_id = stage, adds_to
        self._params, self._tags = params, tags
        self._adds = bool(adds_to)
        self._store = store or StoreConnection()
        self._started = now()
        # Whether the run exists in MLflow, and whether it also has its parameters.
        self._in_mlflow = self._adds
        self._ready = self._resumed = False
        self._buffer: list[Event] = []
        self._buffered = 0
        self._last_flush = time.monotonic()
        self._outbox: Outbox | None = None
        self._missing_run = ""
        self._run_id_file: Path | None = None
        self._others: list[MlflowTracker] = []
        self._notified: set[str] = set()

    @property
    def pending_files(self) -> list[Path]:
        """Files of events that MLflow does not have yet, of this run and the runs that it adds to."""
        return [each._outbox.file.path for each in (self, *self._others) if each._outbox is not None]

    def resume_from(self, directory: Path) -> None:
        self._run_id_file = directory / "run_id"
        if self._run_id_file.is_file():
            self.run_id, self._resumed = self._run_id_file.read_text(encoding="utf-8").strip(), True
            earlier = tracking_file(self.stage, self.run_id)
            if earlier.is_file():
                self._outbox = Outbox(self._store, EventFile(earlier), self._report_rejected)
        if self._outbox is None and not self._attempt(self._ensure_run):
            self._spool(None)
        self._flush_outbox(_FLUSH_TIMEOUT)
        self._save_run_id()

    def log_params(self, params: dict[str, Any]) -> None:
        """Log new parameters. MLflow's parameters cannot change, so known ones are skipped."""
        self._log({"event": "params", "values": {name: str(value) for name, value in params.items()}})

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        """Buffer metrics; they are written in batches, because single calls to a store are slow."""
        values = {name: float(value) for name, value in metrics.items()}
        event = {"event": "metrics", "time": now(), "values": values, "step": step}
        if self._outbox is not None:
            self._log(event)
            return
        self._buffer.append(event)
        self._buffered += len(values)
        if self._buffered >= _FLUSH_VALUES or time.monotonic() - self._last_flush > _FLUSH_SECONDS:
            self.flush()

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        """Log an image; with a step it appears in MLflow's image grid."""
        self._log({"event": "image", "name": name, "step": step}, image)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self._log({"event": "artifact", "folder": folder}, path)

    def set_tags(self, tags: dict[str, str]) -> None:
        self._log({"event": "tags", "values": tags})

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        self._log({"event": "model", "name": name, "register": register}, path)

    def for_run(self, run_id: str | None) -> Tracker:
        """A tracker with a buffer of its own, which ``end`` of this tracker flushes too."""
        if run_id is None:
            return NullTracker()
        other = MlflowTracker(self.stage, {}, {}, run_id, self._store)
        other._notified = self._notified
        self._others.append(other)
        return other

    def flush(self) -> None:
        """Write the buffered metrics, and flush the outbox unless the backoff delay forbids it."""
        if self._buffer and self._outbox is None:
            if self._attempt(self._write_buffer):
                self._last_flush = time.monotonic()
            else:
                self._spool(None)
        self._flush_outbox(_FLUSH_TIMEOUT)

    def end(self, status: str) -> None:
        """Write all events and end the run as FINISHED, FAILED or KILLED, if it has started."""
        self.flush()
        if self.run_id and not self._adds:
            self._log({"event": "end", "status": status})
        self._store.reset_backoff()
        trackers = [self, *self._others]
        for tracker in trackers:
            tracker.flush()
            tracker._flush_outbox(_FINAL_FLUSH_TIMEOUT)
        self._notify_pending()

    def _log(self, event: Event, payload: Payload | None = None) -> None:
        """Write an event, or spool it if the store is unavailable or earlier events are still spooled."""
        event = {"time": now(), **event}
        if isinstance(payload, Path) and not payload.is_file():
            self._report_rejected(RejectedError(str(payload), "it is missing"))
            return
        if self._outbox is not None or not self._attempt(
            lambda: add_events(self._ensure_run(), self.run_id, [event], payload)
        ):
            self._spool(event, payload)
            self._flush_outbox(_FLUSH_TIMEOUT)

    def _attempt(self, action: Callable[[], Any]) -> bool:
        """Run ``action`` and return whether the store accepted it. No exception of the store may stop the training."""
        was_unavailable = self._store.unavailable
        try:
            action()
        except RejectedError as error:
            self._report_rejected(error)
        except StoreUnavailableError:
            return False
        except RunNotFoundError as error:
            self._missing_run = str(error)
            return False
        except Exception as error:
            self._store.record_failure(error)
            return False
        self._store.record_success()
        if was_unavailable:
            self._notify_once("back", "MLflow answers again; the spooled events are being imported")
        return True

    def _ensure_run(self) -> Any:
        """Find or create the run; returns a client."""
        client = self._store.client()
        if self._ready:
            return client
        if self.run_id:
            found = self._store.find_run(self.run_id)
            if found is None and self._adds:
                raise RunNotFoundError(self.run_id)
            # The store or the run was deleted: start a new run.
            self.run_id = found or ""
        start = self._start_event()
        if not self.run_id:
            self.run_id = self._store.create_run(start)
        elif not self._adds:
            client.update_run(self.run_id, status="RUNNING")
        self._in_mlflow = True
        add_events(client, self.run_id, [start])
        self._ready = True
        return client

    def _start_event(self) -> Event:
        start = start_event(self.run_id, self.stage, self._params, self._tags, self._started)
        marks = {"mlflow": self._in_mlflow, "adds": self._adds, "resumed": self._resumed}
        return start | {name: True for name, holds in marks.items() if holds}

    def _write_buffer(self) -> None:
        client = self._ensure_run()
        try:
            add_events(client, self.run_id, self._buffer)
        except RejectedError as error:
            self._report_rejected(error)
        self._buffer, self._buffered = [], 0

    def _spool(self, event: Event | None, payload: Payload | None = None) -> None:
        """Write the buffer and an event to the outbox's file."""
        if self._outbox is None:
            self.run_id = self.run_id or uuid.uuid4().hex
            name = f"{self.run_id}-{uuid.uuid4().hex[:8]}" if self._adds else self.run_id
            self._outbox = Outbox(self._store, EventFile(tracking_file(self.stage, name)), self._report_rejected)
            self._notify_unavailable(self._outbox.file.path)
        buffered, self._buffer, self._buffered = self._buffer, [], 0
        try:
            self._outbox.file.write_start(self._start_event())
            for each in buffered:
                self._outbox.file.append(each)
            if event is not None:
                self._outbox.file.append(event, payload)
        except OSError as error:
            path = self._outbox.file.path
            self._notify_once("full", f"warning: {path} cannot be written ({error}); its events are lost")

    def _flush_outbox(self, seconds: float) -> None:
        """Flush the outbox, if the store answers."""
        if self._outbox is None or self._missing_run:
            return
        outbox, done = self._outbox, []
        if self._attempt(lambda: done.append(outbox.flush(seconds))) and done[0]:
            outbox.file.remove()
            self._outbox = None
        if outbox.run_id:
            self._in_mlflow = self._ready = True
            if outbox.run_id != self.run_id:
                self.run_id = outbox.run_id
                self._save_run_id()

    def _save_run_id(self) -> None:
        if self._run_id_file is not None:
            write_text(self._run_id_file, self.run_id)

    def _report_rejected(self, error: RejectedError) -> None:
        self._notify_once(error.what, f"warning: {error}")

    def _notify_unavailable(self, path: Path) -> None:
        if not self._missing_run:
            reason = self._store.failure
            text = f"warning: MLflow is unavailable ({reason}); the stage continues and spools its run to {path}"
            self._notify_once("unavailable", text)

    def _notify_pending(self) -> None:
        files = " ".join(str(path) for path in self.pending_files)
        if files:
            reason = next((each._missing_run for each in self._others if each._missing_run), self._store.failure)
            text = f"warning: some events are not in MLflow ({reason}); later, run: lpaint track import {files}"
            self._notify_once("pending", text)

    def _notify_once(self, what: str, sentence: str) -> None:
        if what not in self._notified:
            self._notified.add(what)
            notify(sentence)
