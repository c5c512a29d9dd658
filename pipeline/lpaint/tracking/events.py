"""Run files, ``.lpaint/tracking/<stage>-<run id>.jsonl``: the events of one run as JSON lines.

Each line is one event: its kind (``event``), its time (``time``, milliseconds since 1970) and its values. Images,
artifacts and models are in the folder of the same name beside the file; ``file`` is relative to it. Each line is
written in one call, so a killed run loses at most its last event.

==========  ======================================================================================================
event       further keys
==========  ======================================================================================================
start       ``run``, ``stage``, ``params``, ``tags``, ``schema``; ``mlflow``: true if the run started in MLflow;
            ``adds``: true if it is another stage's run, whose status stays; ``resumed``: true if the file
            continues a run that MLflow may have
params      ``values``
metrics     ``values``, ``step``
tags        ``values``
image       ``name``, ``step`` or null, ``file``
artifact    ``folder``, ``file``
model       ``name``, ``register``, ``file``
end         ``status``: FINISHED, FAILED or KILLED
delivered   ``run``: the run's id in MLflow; ``count``: MLflow has so many of the other events, from the first
==========  ======================================================================================================

An event of another, finished run has that run's id as ``run``. A resumed run continues its own file.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lpaint.errors import DataError
from lpaint.files import lock_file
from lpaint.runtime.paths import repository_root

SCHEMA = 1
Event = dict[str, Any]
Payload = np.ndarray | Path


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def start_event(run: str, stage: str, params: dict[str, Any], tags: dict[str, str], started: int) -> Event:
    """The first event of a file."""
    texts = {name: str(value) for name, value in params.items()}
    start = {"event": "start", "time": started, "run": run, "stage": stage, "params": texts, "tags": tags}
    return {**start, "schema": SCHEMA}


def tracking_file(stage: str, run_id: str) -> Path:
    """Path of a run's file."""
    return repository_root() / ".lpaint" / "tracking" / f"{stage}-{run_id}.jsonl"


@dataclass(frozen=True)
class SpooledRun:
    """A file's ``events``, without "delivered" ones. MLflow's run ``mlflow_run`` has the first ``flushed`` of them."""

    events: list[Event]
    mlflow_run: str
    flushed: int


class EventFile:
    """One run's file and the folder beside it. Every method may raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started = path.is_file()

    @property
    def folder(self) -> Path:
        """Folder of images, artifacts and models."""
        return self.path.with_suffix("")

    def write_start(self, start: Event) -> None:
        """Write the start event, unless the file has one."""
        if not self._started:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append(start)
            self._started = True

    def append(self, event: Event, payload: Payload | None = None) -> None:
        """Append an event, and save its image (uint8 [H, W, 3]) or copy its file."""
        event = {"time": now(), **event}
        if payload is None:
            self._append(event)
            return
        name = payload.name if isinstance(payload, Path) else _image_name(event)
        file = self._new_file(name)
        try:
            if isinstance(payload, Path):
                shutil.copyfile(payload, file)
            else:
                Image.fromarray(payload).save(file)
            self._append({**event, "file": file.relative_to(self.folder).as_posix()})
        except BaseException:
            file.unlink(missing_ok=True)
            raise

    def record_flushed(self, run_id: str, count: int) -> None:
        """Record that MLflow's run ``run_id`` has the first ``count`` events."""
        self._append({"event": "delivered", "time": now(), "run": run_id, "count": count})

    def remove(self) -> None:
        """Delete the file and its folder."""
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._started = False

    def read(self) -> SpooledRun:
        """Read all events. An incomplete last line of a killed process is ignored.

        Raises:
            DataError: the file is missing or is no run file.
        """
        events = _parse(self.path)
        records = [event for event in events if event["event"] == "delivered"]
        events = [event for event in events if event["event"] != "delivered"]
        if not events or events[0]["event"] != "start" or events[0].get("schema") != SCHEMA:
            raise DataError(
                f"{self.path}: does not begin like a tracked run of this version; give a .jsonl of .lpaint/tracking"
            )
        return SpooledRun(events, records[-1]["run"], records[-1]["count"]) if records else SpooledRun(events, "", 0)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the file, so that no other process flushes it.

        Raises:
            DataError: another process has locked it.
        """
        try:
            stream = self.path.open("rb")
        except OSError:
            yield  # ``read`` reports the error.
            return
        with stream:
            if not lock_file(stream, wait=False):
                raise DataError(f"{self.path}: another process is importing it into MLflow; wait until that one ends")
            yield

    def _append(self, event: Event) -> None:
        line = (json.dumps(event) + "\n").encode()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = _drop_partial_line(descriptor)
            # One call, so that neither a second process nor a kill nor a full disk leaves a partial line in the middle.
            if os.write(descriptor, line) < len(line):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def _new_file(self, name: str) -> Path:
        """A path for a new file called ``name``, in a subfolder if an earlier one has that name."""
        file, count = self.folder / name, 1
        while file.exists():
            count += 1
            file = self.folder / str(count) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


def _image_name(event: Event) -> str:
    return f"{event['name']}.png" if event["step"] is None else f"{event['name']}-{event['step']:08d}.png"


def _drop_partial_line(descriptor: int) -> int:
    """Cut off an incomplete last line that a killed process left; returns the file's size."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
    os.ftruncate(descriptor, whole)
    return whole


def _parse(path: Path) -> list[Event]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DataError(f"{path}: cannot be read ({reason}); give a .jsonl of .lpaint/tracking") from None
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            event["event"], event["time"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and number > 1:
                break
            raise DataError(f"{path}: line {number} is no event of a tracked run; repair or remove it") from None
        events.append(event)
    return events
