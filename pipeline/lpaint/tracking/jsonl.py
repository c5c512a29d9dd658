"""Runs as files of JSON lines, for machines without MLflow: ``.lpaint/tracking/<stage>-<run id>.jsonl``.

Every line is one event: what it is (``event``), when (``time``, milliseconds since 1970), and its values. Pictures,
artifacts and models lie in a folder of the same name beside the file, to which ``file`` is relative. A line is written
at once and whole, so that a run that was killed keeps all but its last.

==========  ==========================================================
event       further keys
==========  ==========================================================
start       ``run``, ``stage``, ``params``, ``tags``, ``schema``
params      ``values``
metrics     ``values``, ``step``
tags        ``values``
image       ``name``, ``step`` or null, ``file``
artifact    ``folder``, ``file``
model       ``name``, ``register``, ``file``
end         ``status``: FINISHED, FAILED or KILLED
==========  ==========================================================

An event about another, finished run carries that run's id as ``run``. A resumed run goes on in its own file.
"""

import json
import os
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lpaint.files import write_text
from lpaint.paths import repository_root
from lpaint.tracking.base import NullTracker, Tracker

SCHEMA = 1


class JsonlTracker:
    """Appends events to a file; see the module's text. Tracking never stops a stage."""

    def __init__(self, stage: str, params: dict[str, Any], tags: dict[str, str]) -> None:
        self.stage, self.run_id = stage, uuid.uuid4().hex
        self._params, self._tags = params, tags
        self._broken = False
        self._began = int(time.time() * 1000)
        self._started = False

    @property
    def path(self) -> Path:
        """The run's file."""
        return repository_root() / ".lpaint" / "tracking" / f"{self.stage}-{self.run_id}.jsonl"

    def resume_from(self, directory: Path) -> None:
        """See ``Tracker``."""
        remembered = directory / "run_id"
        if remembered.is_file():
            run_id = remembered.read_text(encoding="utf-8").strip()
            earlier = self.path.with_name(f"{self.stage}-{run_id}.jsonl")
            if earlier.is_file():
                self.run_id, self._started = run_id, True
        self._start()
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
        file = self._file(f"{name}.png" if step is None else f"{name}-{step:08d}.png")
        self._attempt(lambda: Image.fromarray(image).save(file))
        self.write({"event": "image", "name": name, "step": step, "file": file.name})

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """See ``Tracker``."""
        self._keep(path, {"event": "artifact", "folder": folder})

    def set_tags(self, tags: dict[str, str]) -> None:
        """See ``Tracker``."""
        self.write({"event": "tags", "values": tags})

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        """See ``Tracker``."""
        self._keep(path, {"event": "model", "name": name, "register": register})

    def for_run(self, run_id: str | None) -> Tracker:
        """See ``Tracker``; the other run's events go to this run's file."""
        return NullTracker() if run_id is None else _OtherRun(self, run_id)

    def end(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, if it ever began."""
        if self._started:
            self.write({"event": "end", "status": status})

    def write(self, event: dict[str, Any]) -> None:
        """Append one event."""
        self._start()
        self._attempt(self._append, event)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            params = {name: str(value) for name, value in self._params.items()}
            run = {"run": self.run_id, "stage": self.stage, "params": params, "tags": self._tags, "schema": SCHEMA}
            self._attempt(self._append, {"event": "start", "time": self._began, **run})

    def _append(self, event: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"time": int(time.time() * 1000), **event}) + "\n"
        # One call, so that two processes or a kill never leave half a line in the middle.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _keep(self, path: Path, event: dict[str, Any]) -> None:
        file = self._file(path.name)
        self._attempt(lambda: shutil.copyfile(path, file))
        self.write({**event, "file": file.name})

    def _file(self, name: str) -> Path:
        """A place beside the run's file for a copy, in which no earlier one lies."""
        folder = self.path.with_suffix("")
        self._attempt(lambda: folder.mkdir(parents=True, exist_ok=True))
        file, count = folder / name, 1
        while file.exists():
            count += 1
            file = folder / f"{Path(name).stem}-{count}{Path(name).suffix}"
        return file

    def _attempt(self, action: Any, *arguments: Any) -> None:
        if self._broken:
            return
        try:
            action(*arguments)
        except OSError as error:
            self._broken = True
            print(f"warning: tracking stopped ({self.path}: {error}); the stage goes on without it", file=sys.stderr)


class _OtherRun(JsonlTracker):
    """Adds to another run by events in the file of the tracker that it came from."""

    def __init__(self, owner: JsonlTracker, run_id: str) -> None:
        self.stage, self.run_id, self._owner = owner.stage, run_id, owner
        self._broken = False

    @property
    def path(self) -> Path:
        return self._owner.path

    def resume_from(self, directory: Path) -> None: ...

    def end(self, status: str) -> None: ...

    def write(self, event: dict[str, Any]) -> None:
        """See ``JsonlTracker.write``."""
        self._owner.write({**event, "run": self.run_id})
