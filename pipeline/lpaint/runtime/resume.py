"""Resume state of interrupted stages: one folder for each configuration, outside DVC's outs, locked while in use.

DVC deletes a stage's outs before it runs, and would reuse a persistent out in runs with *other* parameters. So resume
state is in ``.lpaint/resume/<stage>-<digest>/`` under the repository's root. The digest covers everything that decides
what the stage computes.
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
from lpaint.files import lock_file, remove_stale_partials, write_json
from lpaint.runtime.messages import notify
from lpaint.runtime.paths import resume_directory

# Describes a folder's progress to the user.
ABOUT_FILE = "about.json"


@contextmanager
def resume_folder(stage: str, key: dict[str, Any], work: str = "training", is_main: bool = True) -> Iterator[Path]:
    """Yield the folder of ``stage`` with the configuration ``key`` (JSON values), locked while in use.

    If another process does the same ``work``, this waits for it to end and says so on stderr. That happens when jobs of
    a grid share a stage, or when a killed DVC left its stage running. A process that is not ``is_main`` neither locks
    nor creates the folder.
    """
    directory = resume_directory(stage, _digest(key))
    if not is_main:
        yield directory
        return
    directory.mkdir(parents=True, exist_ok=True)
    # The lock is beside the folder, so that clearing the folder does not release it.
    with directory.with_suffix(".lock").open("a+") as lock:
        if not lock_file(lock, wait=False):
            lock.seek(0)
            notify(f"{stage}: process {lock.read().strip()} is running the same {work}; waiting for it to end")
            lock_file(lock)
            # The other process removed the folder when it ended.
            directory.mkdir(parents=True, exist_ok=True)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        # The lock ensures that no other process writes here.
        remove_stale_partials(directory, min_age=0, include_legacy=True)
        if not (directory / ABOUT_FILE).exists():
            write_about(directory, stage, key, "begun")
        yield directory


def find_resumable_key(stage: str, *keys: dict[str, Any]) -> dict[str, Any]:
    """The first of ``keys`` with checkpoints, else the first with a folder, else the first.

    Keys of earlier versions differ, so a training may have several.
    """
    folders = [resume_directory(stage, _digest(key)) for key in keys]
    for pattern in ("checkpoint-*.pt", ABOUT_FILE):
        for key, folder in zip(keys, folders, strict=True):
            if any(folder.glob(pattern)):
                return key
    return keys[0]


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def write_about(directory: Path, stage: str, key: dict[str, Any], note: str) -> None:
    """Describe the progress of a resume folder in its about.json; ``note`` is a short text for the user."""
    write_json(directory / ABOUT_FILE, {"stage": stage, "note": note, "saved": int(time.time()), "key": key})


@dataclass(frozen=True)
class ResumeFolder:
    """A folder of resume state.

    Attributes:
        name: the folder's name, ``<stage>-<digest>``.
        stage: the stage's name.
        note: its progress, for the user.
        saved: time of ``note`` in seconds since 1970.
        bytes: its size on the disk.
        process: id of the process that uses it; None if it is free.
        key: the configuration that it belongs to.
    """

    name: str
    stage: str
    note: str
    saved: float
    bytes: int
    process: str | None
    key: dict[str, Any]


def list_resume_folders() -> list[ResumeFolder]:
    """All resume folders of the repository, newest first."""
    folders = _resume_root().iterdir() if _resume_root().is_dir() else iter(())
    return sorted((_read_folder(path) for path in folders if path.is_dir()), key=lambda each: -each.saved)


def select_folders(found: list[ResumeFolder], names: list[str], older_than: float | None) -> list[ResumeFolder]:
    """The folders that ``names`` (or unique prefixes) select, at least ``older_than`` days old; no names = all.

    Raises:
        ParamsError: a name matches no folder, or several.
    """
    if older_than is not None:
        found = [each for each in found if time.time() - each.saved >= older_than * 86400]
    if not names:
        return found
    selected = []
    for name in names:
        matches = [each for each in found if each.name.startswith(name)]
        if len(matches) != 1:
            problem = "several begin with it; give more of the name" if matches else "there is none"
            raise ParamsError(f"resume state {name}: {problem}; `lpaint resume list` names them")
        selected += matches
    return selected


def remove_folder(state: ResumeFolder) -> bool:
    """Remove a resume folder unless a process uses it; returns whether it was removed."""
    with (_resume_root() / f"{state.name}.lock").open("a+") as lock:
        if not lock_file(lock, wait=False):
            return False
        shutil.rmtree(_resume_root() / state.name)
    return True


def _resume_root() -> Path:
    return resume_directory("", "").parent


def _read_folder(folder: Path) -> ResumeFolder:
    try:
        about = json.loads((folder / ABOUT_FILE).read_text(encoding="utf-8"))
        note, saved, key = str(about["note"]), float(about["saved"]), dict(about["key"])
    except (OSError, ValueError, KeyError, TypeError):
        note, saved, key = "begun", folder.stat().st_mtime, {}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return ResumeFolder(folder.name, folder.name.rpartition("-")[0], note, saved, size, _lock_holder(folder), key)


def _lock_holder(folder: Path) -> str | None:
    """Id of the process that holds a folder's lock; None if it is free."""
    lock = folder.with_suffix(".lock")
    if not lock.is_file():
        return None
    with lock.open() as stream:
        return None if lock_file(stream, wait=False) else stream.read().strip()
