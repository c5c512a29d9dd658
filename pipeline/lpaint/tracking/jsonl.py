"""Tracking in run files, for machines without MLflow; ``events`` documents the format."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np

from lpaint.files import write_text
from lpaint.runtime.messages import notify
from lpaint.tracking.base import NullTracker, Tracker
from lpaint.tracking.events import Event, EventFile, Payload, now, start_event, tracking_file


class JsonlTracker:
    """Appends events to a file. Tracking never stops a stage: a write error is reported once, and its event is lost."""

    def __init__(self, stage: str, params: dict[str, Any], tags: dict[str, str]) -> None:
        self.stage, self.run_id = stage, uuid.uuid4().hex
        self._params, self._tags = params, tags
        self._started = now()
        self._file: EventFile | None = None
        self._warned = False

    @property
    def path(self) -> Path:
        """The run's file."""
        return tracking_file(self.stage, self.run_id)

    def resume_from(self, directory: Path) -> None:
        run_id_file = directory / "run_id"
        if run_id_file.is_file():
            run_id = run_id_file.read_text(encoding="utf-8").strip()
            if tracking_file(self.stage, run_id).is_file():
                self.run_id = run_id
        self.write(None)
        write_text(run_id_file, self.run_id)

    def log_params(self, params: dict[str, Any]) -> None:
        self.write({"event": "params", "values": {name: str(value) for name, value in params.items()}})

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        self.write({"event": "metrics", "values": values, "step": step})

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        self.write({"event": "image", "name": name, "step": step}, image)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self.write({"event": "artifact", "folder": folder}, path)

    def set_tags(self, tags: dict[str, str]) -> None:
        self.write({"event": "tags", "values": tags})

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        self.write({"event": "model", "name": name, "register": register}, path)

    def for_run(self, run_id: str | None) -> Tracker:
        """A tracker that writes the other run's events to this run's file."""
        return NullTracker() if run_id is None else _OtherRunTracker(self, run_id)

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, if it has started."""
        if self._file is not None:
            self.write({"event": "end", "status": status})

    def write(self, event: Event | None, payload: Payload | None = None) -> None:
        """Append one event and its payload; None only creates the file."""
        if self._file is None:
            self._file = EventFile(self.path)
        try:
            self._file.write_start(start_event(self.run_id, self.stage, self._params, self._tags, self._started))
            if event is not None:
                self._file.append(event, payload)
        except OSError as error:
            if not self._warned:
                self._warned = True
                notify(f"warning: {self.path} cannot be written ({error}); the stage continues, its events are lost")


class _OtherRunTracker(JsonlTracker):
    """Adds to another run, by events in the owner's file."""

    def __init__(self, owner: JsonlTracker, run_id: str) -> None:
        self.stage, self.run_id, self._owner = owner.stage, run_id, owner

    @property
    def path(self) -> Path:
        return self._owner.path

    def resume_from(self, directory: Path) -> None: ...

    def end(self, status: str) -> None: ...

    def write(self, event: Event | None, payload: Payload | None = None) -> None:
        if event is not None:
            self._owner.write({**event, "run": self.run_id}, payload)
