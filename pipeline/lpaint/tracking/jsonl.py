"""Tracking in files, for machines without MLflow; ``events`` has the format."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np

from lpaint.files import write_text
from lpaint.runtime.messages import notify
from lpaint.tracking.base import NullTracker, Tracker
from lpaint.tracking.events import Event, EventFile, Payload, now, start_event, tracking_file


class JsonlTracker:
    """Appends events to a file. Tracking never stops a stage: what cannot be written is reported once and left out."""

    def __init__(self, stage: str, params: dict[str, Any], tags: dict[str, str]) -> None:
        self.stage, self.run_id = stage, uuid.uuid4().hex
        self._params, self._tags = params, tags
        self._began = now()
        self._file: EventFile | None = None
        self._reported = False

    @property
    def path(self) -> Path:
        """The run's file."""
        return tracking_file(self.stage, self.run_id)

    def resume_from(self, directory: Path) -> None:
        """See ``Tracker``."""
        remembered = directory / "run_id"
        if remembered.is_file():
            run_id = remembered.read_text(encoding="utf-8").strip()
            if tracking_file(self.stage, run_id).is_file():
                self.run_id = run_id
        self.write(None)
        write_text(remembered, self.run_id)

    def log_params(self, params: dict[str, Any]) -> None:
        """See ``Tracker``."""
        self.write({"event": "params", "values": {name: str(value) for name, value in params.items()}})

    def log_metrics(self, metrics: dict[str, float], step: int = 0) -> None:
        """See ``Tracker``."""
        values = {name: float(value) for name, value in metrics.items()}
        self.write({"event": "metrics", "values": values, "step": step})

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        """See ``Tracker``."""
        self.write({"event": "image", "name": name, "step": step}, image)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """See ``Tracker``."""
        self.write({"event": "artifact", "folder": folder}, path)

    def set_tags(self, tags: dict[str, str]) -> None:
        """See ``Tracker``."""
        self.write({"event": "tags", "values": tags})

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        """See ``Tracker``."""
        self.write({"event": "model", "name": name, "register": register}, path)

    def for_run(self, run_id: str | None) -> Tracker:
        """See ``Tracker``; the other run's events go to this run's file."""
        return NullTracker() if run_id is None else _OtherRun(self, run_id)

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, if it ever began."""
        if self._file is not None:
            self.write({"event": "end", "status": status})

    def write(self, event: Event | None, payload: Payload | None = None) -> None:
        """Append one event and what belongs to it; None only begins the file."""
        if self._file is None:
            self._file = EventFile(self.path)
        try:
            self._file.begin(start_event(self.run_id, self.stage, self._params, self._tags, self._began))
            if event is not None:
                self._file.append(event, payload)
        except OSError as error:
            if not self._reported:
                self._reported = True
                notify(
                    f"warning: {self.path} cannot be written ({error}); the stage goes on, what cannot be kept is lost"
                )


class _OtherRun(JsonlTracker):
    """Adds to another run by events in the file of the tracker that it came from."""

    def __init__(self, owner: JsonlTracker, run_id: str) -> None:
        self.stage, self.run_id, self._owner = owner.stage, run_id, owner

    @property
    def path(self) -> Path:
        return self._owner.path

    def resume_from(self, directory: Path) -> None: ...

    def end(self, status: str) -> None: ...

    def write(self, event: Event | None, payload: Payload | None = None) -> None:
        """See ``JsonlTracker.write``."""
        if event is not None:
            self._owner.write({**event, "run": self.run_id}, payload)
