"""What interrupted trainings left under ``.lpaint/resume/``: listed, and cleaned away."""

import fcntl
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpaint.errors import ParamsError
from lpaint.paths import RESUME_NOTE, resume_directory


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
        if not _take(lock.fileno()):
            return False
        shutil.rmtree(_root() / state.name)
    return True


def _root() -> Path:
    return resume_directory("", "").parent


def _read(folder: Path) -> Unfinished:
    try:
        about = json.loads((folder / RESUME_NOTE).read_text(encoding="utf-8"))
        note, saved, key = str(about["note"]), float(about["saved"]), dict(about["key"])
    except (OSError, ValueError, KeyError, TypeError):
        # Killed before its first checkpoint; or not a training's.
        note, saved, key = "no checkpoint yet", folder.stat().st_mtime, {}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Unfinished(folder.name, folder.name.rpartition("-")[0], note, saved, size, _process(folder), key)


def _process(folder: Path) -> str | None:
    """The process that has a folder's lock; None if none has."""
    lock = folder.with_suffix(".lock")
    if not lock.is_file():
        return None
    with lock.open() as stream:
        return None if _take(stream.fileno()) else stream.read().strip()


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
