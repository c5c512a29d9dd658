"""Runs as files of JSON lines: ``.lpaint/tracking/<stage>-<run id>.jsonl``.

Every line is one event: what it is (``event``), when (``time``, milliseconds since 1970), and its values. Pictures,
artifacts and models lie in a folder of the same name beside the file, to which ``file`` is relative. A line is written
at once and whole, so that a run that was killed keeps all but its last.

==========  ======================================================================================================
event       further keys
==========  ======================================================================================================
start       ``run``, ``stage``, ``params``, ``tags``, ``schema``; of a run that began in MLflow also ``mlflow``: true,
            and ``adds``: true if it is another stage's, whose status is left alone; ``resumed``: true if the
            file goes on with a run that may be there
params      ``values``
metrics     ``values``, ``step``
tags        ``values``
image       ``name``, ``step`` or null, ``file``
artifact    ``folder``, ``file``
model       ``name``, ``register``, ``file``
end         ``status``: FINISHED, FAILED or KILLED
delivered   ``run``: the run's id in MLflow; ``count``: so many of the other events, from the first, are there
==========  ======================================================================================================

An event about another, finished run carries that run's id as ``run``. A resumed run goes on in its own file.
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


def start_event(run: str, stage: str, params: dict[str, Any], tags: dict[str, str], began: int) -> Event:
    """The first event of a file."""
    texts = {name: str(value) for name, value in params.items()}
    start = {"event": "start", "time": began, "run": run, "stage": stage, "params": texts, "tags": tags}
    return {**start, "schema": SCHEMA}


def tracking_file(stage: str, run_id: str) -> Path:
    """Where the events of a run lie."""
    return repository_root() / ".lpaint" / "tracking" / f"{stage}-{run_id}.jsonl"


@dataclass(frozen=True)
class Kept:
    """What a file holds: its events without the notes on delivery; the run in MLflow that has the first ``count``."""

    events: list[Event]
    run: str
    count: int


class EventFile:
    """One run's file and the folder beside it. Every method may raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begun = path.is_file()

    @property
    def folder(self) -> Path:
        """Where pictures, artifacts and models lie."""
        return self.path.with_suffix("")

    def begin(self, start: Event) -> None:
        """Write the first event, unless the file has it."""
        if not self._begun:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append(start)
            self._begun = True

    def append(self, event: Event, payload: Payload | None = None) -> None:
        """Add an event, and a copy of the picture (uint8 [H, W, 3]) or the file that belongs to it."""
        event = {"time": now(), **event}
        if payload is None:
            self._append(event)
            return
        name = payload.name if isinstance(payload, Path) else _image_name(event)
        file = self._free(name)
        try:
            if isinstance(payload, Path):
                shutil.copyfile(payload, file)
            else:
                Image.fromarray(payload).save(file)
            self._append({**event, "file": file.relative_to(self.folder).as_posix()})
        except BaseException:
            file.unlink(missing_ok=True)
            raise

    def note_delivered(self, run_id: str, count: int) -> None:
        """Note that MLflow's run ``run_id`` has the first ``count`` events."""
        self._append({"event": "delivered", "time": now(), "run": run_id, "count": count})

    def remove(self) -> None:
        """Remove the file and its folder."""
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._begun = False

    def read(self) -> Kept:
        """All events. A last line that a killed process left unfinished is ignored.

        Raises:
            DataError: the file is missing or is not one of these.
        """
        events = _parse(self.path)
        notes = [event for event in events if event["event"] == "delivered"]
        events = [event for event in events if event["event"] != "delivered"]
        if not events or events[0]["event"] != "start" or events[0].get("schema") != SCHEMA:
            raise DataError(
                f"{self.path}: does not begin like a tracked run of this version; give a .jsonl of .lpaint/tracking"
            )
        return Kept(events, notes[-1]["run"], notes[-1]["count"]) if notes else Kept(events, "", 0)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the file against other processes that would deliver it too.

        Raises:
            DataError: one does.
        """
        try:
            stream = self.path.open("rb")
        except OSError:
            yield  # Whoever reads it says so.
            return
        with stream:
            if not lock_file(stream, wait=False):
                raise DataError(f"{self.path}: another process is bringing it into MLflow; let that one end")
            yield

    def _append(self, event: Event) -> None:
        line = (json.dumps(event) + "\n").encode()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = _mend(descriptor)
            # One call, so that two processes or a kill never leave half a line in the middle; nor does a full disk.
            if os.write(descriptor, line) < len(line):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)

    def _free(self, name: str) -> Path:
        """A place for a copy, of its own name, in which no earlier one lies."""
        file, count = self.folder / name, 1
        while file.exists():
            count += 1
            file = self.folder / str(count) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        return file


def _image_name(event: Event) -> str:
    return f"{event['name']}.png" if event["step"] is None else f"{event['name']}-{event['step']:08d}.png"


def _mend(descriptor: int) -> int:
    """The file's size, less half a line that a killed process left at its end, which is cut off."""
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
        reason = getattr(error, "strerror", None) or "is no text"
        raise DataError(f"{path}: cannot be read ({reason}); give a .jsonl of .lpaint/tracking") from None
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            event["event"], event["time"]
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and number > 1:
                break
            raise DataError(f"{path}: line {number} is no event of a tracked run; mend or remove it") from None
        events.append(event)
    return events
