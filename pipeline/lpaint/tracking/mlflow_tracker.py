"""Tracking in MLflow, which may go away and come back.

A run starts at the first thing logged, or when ``resume_from`` finds the run of an interrupted training. Tracking never
stops a stage. What the store does not take is kept in a file (``events``), in order and with its times; the store is
asked again, less and less often, and gets what was kept when it answers. What it has not got by the end of the stage
stays in the file, for ``lpaint track import``.
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
from lpaint.tracking.mlflow_store import AwayError, RunMissingError, Store
from lpaint.tracking.outbox import RefusedError, Replay, add_events

_FLUSH_EVERY = 200
_FLUSH_SECONDS = 10.0
# Seconds that bringing in what was kept may take at a time, and at the end of the stage.
_AT_A_TIME = 3.0
_AT_THE_END = 60.0


class MlflowTracker:
    """Logs to the store of ``MLFLOW_TRACKING_URI``, or to ``mlflow.db`` in the repository's root.

    ``adds_to``: the finished run of another stage, whose status is left alone; see ``Tracker.for_run``.
    """

    def __init__(
        self, stage: str, params: dict[str, Any], tags: dict[str, str], adds_to: str = "", store: Store | None = None
    ) -> None:
        self.stage, self.run_id = stage, adds_to
        self._params, self._tags = params, tags
        self._adds = bool(adds_to)
        self._store = store or Store()
        self._began = now()
        # In MLflow, as far as this process knows; and with its parameters.
        self._known = self._adds
        self._opened = self._resumed = False
        self._buffer: list[Event] = []
        self._rows = 0
        self._flushed = time.monotonic()
        self._kept: Replay | None = None
        self._missing = ""
        self._remembered: Path | None = None
        self._others: list[MlflowTracker] = []
        self._said: set[str] = set()

    @property
    def undelivered(self) -> list[Path]:
        """The files of what MLflow has not got, of this run and those that it added to."""
        return [each._kept.file.path for each in (self, *self._others) if each._kept is not None]

    def resume_from(self, directory: Path) -> None:
        """See ``Tracker``."""
        self._remembered = directory / "run_id"
        if self._remembered.is_file():
            self.run_id, self._resumed = self._remembered.read_text(encoding="utf-8").strip(), True
            earlier = tracking_file(self.stage, self.run_id)
            if earlier.is_file():
                self._kept = Replay(self._store, EventFile(earlier), self._refused)
        if self._kept is None and not self._try(self._open):
            self._keep(None)
        self._bring_in(_AT_A_TIME)
        self._remember()

    def log_params(self, params: dict[str, Any]) -> None:
        """Parameters not logged before; a run's parameters cannot change, so known ones are left alone."""
        self._log({"event": "params", "values": {name: str(value) for name, value in params.items()}})

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        """Buffered; written in batches, since single calls to a store are slow."""
        values = {name: float(value) for name, value in metrics.items()}
        event = {"event": "metrics", "time": now(), "values": values, "step": step}
        if self._kept is not None:
            self._log(event)
            return
        self._buffer.append(event)
        self._rows += len(values)
        if self._rows >= _FLUSH_EVERY or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        """See ``Tracker``; with a step it appears in MLflow's image grid."""
        self._log({"event": "image", "name": name, "step": step}, image)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """See ``Tracker``."""
        self._log({"event": "artifact", "folder": folder}, path)

    def set_tags(self, tags: dict[str, str]) -> None:
        """See ``Tracker``."""
        self._log({"event": "tags", "values": tags})

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        """See ``Tracker``."""
        self._log({"event": "model", "name": name, "register": register}, path)

    def for_run(self, run_id: str | None) -> Tracker:
        """See ``Tracker``. What it buffers is written by its own ``flush``; ``end`` of this tracker calls it."""
        if run_id is None:
            return NullTracker()
        other = MlflowTracker(self.stage, {}, {}, run_id, self._store)
        other._said = self._said
        self._others.append(other)
        return other

    def flush(self) -> None:
        """Write the buffered metrics, and what was kept if it is time to try again."""
        if self._buffer and self._kept is None:
            if self._try(self._write_buffer):
                self._flushed = time.monotonic()
            else:
                self._keep(None)
        self._bring_in(_AT_A_TIME)

    def end(self, status: str) -> None:
        """Write what is buffered and kept, and end the run as FINISHED, FAILED or KILLED, if it ever began."""
        self.flush()
        if self.run_id and not self._adds:
            self._log({"event": "end", "status": status})
        self._store.ask_at_once()
        trackers = [self, *self._others]
        for tracker in trackers:
            tracker.flush()
            tracker._bring_in(_AT_THE_END)
        self._say_what_is_left()

    def _log(self, event: Event, payload: Payload | None = None) -> None:
        """Write an event, or keep it where the store is away or has not yet got what was kept before."""
        event = {"time": now(), **event}
        if isinstance(payload, Path) and not payload.is_file():
            self._refused(RefusedError(str(payload), "it is missing"))
            return
        if self._kept is not None or not self._try(lambda: add_events(self._open(), self.run_id, [event], payload)):
            self._keep(event, payload)
            self._bring_in(_AT_A_TIME)

    def _try(self, action: Callable[[], Any]) -> bool:
        """Whether the store did it; whatever the store or its client raises, hours of training must not die of it."""
        was_away = self._store.away
        try:
            action()
        except RefusedError as error:
            self._refused(error)
        except AwayError:
            return False
        except RunMissingError as error:
            self._missing = str(error)
            return False
        except Exception as error:
            self._store.failed(error)
            return False
        self._store.answered()
        if was_away:
            self._say_once("back", "MLflow answers again; what was kept meanwhile is brought in")
        return True

    def _open(self) -> Any:
        """A client, once the run is there."""
        client = self._store.client()
        if self._opened:
            return client
        if self.run_id:
            found = self._store.find(self.run_id)
            if found is None and self._adds:
                raise RunMissingError(self.run_id)
            # The store or the run was deleted since: a new run is started.
            self.run_id = found or ""
        start = self._start()
        if not self.run_id:
            self.run_id = self._store.create_run(start)
        elif not self._adds:
            client.update_run(self.run_id, status="RUNNING")
        self._known = True
        add_events(client, self.run_id, [start])
        self._opened = True
        return client

    def _start(self) -> Event:
        start = start_event(self.run_id, self.stage, self._params, self._tags, self._began)
        marks = {"mlflow": self._known, "adds": self._adds, "resumed": self._resumed}
        return start | {name: True for name, holds in marks.items() if holds}

    def _write_buffer(self) -> None:
        client = self._open()
        try:
            add_events(client, self.run_id, self._buffer)
        except RefusedError as error:
            self._refused(error)
        self._buffer, self._rows = [], 0

    def _keep(self, event: Event | None, payload: Payload | None = None) -> None:
        """Put the buffer and an event into the file."""
        if self._kept is None:
            self.run_id = self.run_id or uuid.uuid4().hex
            name = f"{self.run_id}-{uuid.uuid4().hex[:8]}" if self._adds else self.run_id
            self._kept = Replay(self._store, EventFile(tracking_file(self.stage, name)), self._refused)
            self._say_away(self._kept.file.path)
        waiting, self._buffer, self._rows = self._buffer, [], 0
        try:
            self._kept.file.begin(self._start())
            for each in waiting:
                self._kept.file.append(each)
            if event is not None:
                self._kept.file.append(event, payload)
        except OSError as error:
            path = self._kept.file.path
            self._say_once("full", f"warning: {path} cannot be written ({error}); what cannot be kept is lost")

    def _bring_in(self, seconds: float) -> None:
        """Deliver what was kept, if the store answers."""
        if self._kept is None or self._missing:
            return
        kept, done = self._kept, []
        if self._try(lambda: done.append(kept.deliver(seconds))) and done[0]:
            kept.file.remove()
            self._kept = None
        if kept.run_id:
            self._known = self._opened = True
            if kept.run_id != self.run_id:
                self.run_id = kept.run_id
                self._remember()

    def _remember(self) -> None:
        if self._remembered is not None:
            write_text(self._remembered, self.run_id)

    def _refused(self, error: RefusedError) -> None:
        self._say_once(error.what, f"warning: {error}")

    def _say_away(self, path: Path) -> None:
        if not self._missing:
            reason = self._store.reason
            self._say_once("away", f"warning: MLflow is away ({reason}); the stage goes on and keeps its run in {path}")

    def _say_what_is_left(self) -> None:
        files = " ".join(str(path) for path in self.undelivered)
        if files:
            reason = next((each._missing for each in self._others if each._missing), self._store.reason)
            self._say_once("left", f"warning: not all is in MLflow ({reason}); later, run: lpaint track import {files}")

    def _say_once(self, what: str, sentence: str) -> None:
        if what not in self._said:
            self._said.add(what)
            notify(sentence)
