"""Folders for what an interrupted stage needs to go on: one a configuration, outside DVC's outs, locked while in use.

DVC deletes a stage's outs before it runs, and would carry a persistent one into runs with *other* parameters. So what a
killed stage needs to go on lies under ``.lpaint/resume/<stage>-<digest>/`` in the repository's root; the digest is of
everything that decides what the stage computes.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpaint.errors import ParamsError
from lpaint.files import lock_file, sweep, write_json
from lpaint.runtime.messages import notify
from lpaint.runtime.paths import resume_directory

# In such a folder: what people want to know of it.
NOTE = "about.json"


@contextmanager
def resume_folder(stage: str, key: dict[str, Any], work: str = "training", owns: bool = True) -> Iterator[Path]:
    """The folder for ``stage`` under a configuration ``key`` (JSON values), locked while in use.

    Where another process is doing the same ``work``, as jobs of a grid that share a stage do, and a stage whose DVC was
    killed, it waits for that one to end, and says so on stderr. A process that helps another (``owns`` is false) leaves
    lock and folder to that one.
    """
    directory = resume_directory(stage, _digest(key))
    if not owns:
        yield directory
        return
    directory.mkdir(parents=True, exist_ok=True)
    # The lock lies beside the folder, so that clearing the folder does not free it.
    with directory.with_suffix(".lock").open("a+") as lock:
        if not lock_file(lock, wait=False):
            lock.seek(0)
            notify(f"{stage}: process {lock.read().strip()} is running this very {work}; waiting for it to end")
            lock_file(lock)
            # Its end took the folder along.
            directory.mkdir(parents=True, exist_ok=True)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        # The lock says that nobody else writes here.
        sweep(directory, idle=0, earlier=True)
        if not (directory / NOTE).exists():
            take_note(directory, stage, key, "begun")
        yield directory


def first_unfinished(stage: str, *keys: dict[str, Any]) -> dict[str, Any]:
    """The first of a training's ``keys`` that has checkpoints, else that was begun; else the first.

    Earlier versions had other keys.
    """
    folders = [resume_directory(stage, _digest(key)) for key in keys]
    for pattern in ("checkpoint-*.pt", NOTE):
        for key, folder in zip(keys, folders, strict=True):
            if any(folder.glob(pattern)):
                return key
    return keys[0]


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def take_note(directory: Path, stage: str, key: dict[str, Any], note: str) -> None:
    """Write into a folder of resume state how far it is, for people."""
    write_json(directory / NOTE, {"stage": stage, "note": note, "saved": int(time.time()), "key": key})


@dataclass(frozen=True)
class Unfinished:
    """A folder of resume state.

    ``note`` says how far it is, ``saved`` when that was (seconds since 1970), ``bytes`` what it takes on the disk,
    ``process`` who is working on it (None: nobody), ``key`` the configuration that it belongs to.
    """

    name: str
    stage: str
    note: str
    saved: float
    bytes: int
    process: str | None
    key: dict[str, Any]


def list_unfinished() -> list[Unfinished]:
    """All resume state of the repository, the newest first."""
    folders = _root().iterdir() if _root().is_dir() else iter(())
    return sorted((_read(path) for path in folders if path.is_dir()), key=lambda each: -each.saved)


def choose(found: list[Unfinished], names: list[str], older_than: float | None) -> list[Unfinished]:
    """Those that are named (beginnings do, if they are of one only), or of at least so many days ago, or all.

    Raises:
        ParamsError: a name that none has, or several begin with.
    """
    if older_than is not None:
        found = [each for each in found if time.time() - each.saved >= older_than * 86400]
    if not names:
        return found
    chosen = []
    for name in names:
        fitting = [each for each in found if each.name.startswith(name)]
        if len(fitting) != 1:
            problem = "several begin with it; give more of the name" if fitting else "there is none"
            raise ParamsError(f"resume state {name}: {problem}; `lpaint resume list` names them")
        chosen += fitting
    return chosen


def remove(state: Unfinished) -> bool:
    """Remove resume state, unless a process is working on it; whether it is gone."""
    with (_root() / f"{state.name}.lock").open("a+") as lock:
        if not lock_file(lock, wait=False):
            return False
        shutil.rmtree(_root() / state.name)
    return True


def _root() -> Path:
    return resume_directory("", "").parent


def _read(folder: Path) -> Unfinished:
    try:
        about = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        note, saved, key = str(about["note"]), float(about["saved"]), dict(about["key"])
    except (OSError, ValueError, KeyError, TypeError):
        note, saved, key = "begun", folder.stat().st_mtime, {}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Unfinished(folder.name, folder.name.rpartition("-")[0], note, saved, size, _process(folder), key)


def _process(folder: Path) -> str | None:
    """The process that has a folder's lock; None if none has."""
    lock = folder.with_suffix(".lock")
    if not lock.is_file():
        return None
    with lock.open() as stream:
        return None if lock_file(stream, wait=False) else stream.read().strip()
