"""Repair of the repository's own MLflow database after the repository was moved, renamed or copied.

MLflow stores absolute locations of experiments, runs and models. After a move they still refer to the former root:
models are not found, and new artifacts are written to the old folder (for a copy: the original). So locations below the
former root are rewritten to the present one.
"""

import errno
import filecmp
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lpaint.files import atomic_write, is_partial

ARTIFACTS = "mlartifacts"
_DATABASE = "mlflow.db"
_LOCK_TIMEOUT = 5.0
# The note lists at most this many skipped files.
_MAX_LISTED = 3
# Tables and columns in which MLflow stores locations.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def former_root(root: Path, experiment: str) -> Path | None:
    """The root for which the database of the repository at ``root`` was made; None if it is the same or unknown.

    lpaint gives its experiment the artifact location ``mlartifacts`` in the repository. None is also returned for an
    experiment with another location, made by hand, and for a database that is shared with the former root by a link or
    a bind mount.
    """
    database = root / _DATABASE
    if database.is_symlink() or not database.is_file():
        return None
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", timeout=_LOCK_TIMEOUT, uri=True)) as connection:
        try:
            query = "SELECT artifact_location FROM experiments WHERE name = ?"
            found = connection.execute(query, (experiment,)).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
    location = _local_path(found[0]) if found and found[0] else None
    if location is None or location.name != ARTIFACTS or _is_same_path(location.parent, root):
        return None
    old = location.parent
    if _is_same_path(old / _DATABASE, database):
        return None
    moved = (root / ARTIFACTS).is_dir() or (old / _DATABASE).exists() or not location.exists()
    return old if moved else None


def relocate(root: Path, experiment: str) -> str:
    """Rewrite the locations in the database at ``root`` if it was made for another root.

    Files of runs and models that only the former root has are copied. No file is overwritten, and the former root does
    not change.

    Returns:
        What was done, with the files that differ or cannot be copied; empty if there was nothing to do.

    Raises:
        OSError: the disk is full; the locations are unchanged.
        sqlite3.Error: the database cannot be written.
    """
    old = former_root(root, experiment)
    if old is None:
        return ""
    with closing(sqlite3.connect(root / _DATABASE, timeout=_LOCK_TIMEOUT, isolation_level=None)) as connection:
        copied, skipped = _copy_files(connection, old, root)
        connection.execute("BEGIN IMMEDIATE")
        try:
            counts = [_rewrite_column(connection, *column, old, root) for column in _location_columns(connection)]
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    was = f"is a copy of {old}" if os.access(old / _DATABASE, os.F_OK) else f"was in {old} before"
    done = f"{sum(counts)} locations changed" + (f", files copied from there: {copied}" if copied else "")
    note = f"this repository {was}: MLflow now looks for its artifacts in {root / ARTIFACTS} ({done})"
    return f"{note}; not copied from {old}: {_format_skipped(skipped)}" if skipped else note


def _location_columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The columns of ``_COLUMNS`` that this version of MLflow has."""
    return [
        (table, column)
        for table, column in _COLUMNS
        if column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    ]


def _rewrite_column(connection: sqlite3.Connection, table: str, column: str, old: Path, new: Path) -> int:
    """Replace the former root at the start of a column's locations; returns how many were changed."""
    changed = 0
    for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
        statement = (
            f"UPDATE {table} SET {column} = :after || substr({column}, length(:before) + 1) "
            f"WHERE {column} = :before OR substr({column}, 1, length(:before) + 1) = :before || '/'"
        )
        changed += connection.execute(statement, {"before": before, "after": after}).rowcount
    return changed


def _copy_files(connection: sqlite3.Connection, old: Path, new: Path) -> tuple[int, list[str]]:
    """Copy files of runs and models that only the former root has; returns how many, and the skipped ones with reasons.

    An earlier version of lpaint recreated the former folder and wrote there, also for runs with artifacts here.
    """
    copied, skipped = 0, {}
    for source, unreadable in _former_files(connection, old):
        name = source.relative_to(old)
        target = new / name
        try:
            if unreadable:
                raise unreadable
            if not os.path.lexists(target):
                with atomic_write(target) as temporary:
                    shutil.copyfile(source, temporary)
                copied += 1
            elif not source.is_dir() and not filecmp.cmp(source, target):
                skipped[name] = "differs here"
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            skipped[name] = f"cannot be copied: {error.strerror or error}"
    return copied, [f"{name} ({skipped[name]})" for name in sorted(skipped)]


def _former_files(connection: sqlite3.Connection, old: Path) -> Iterator[tuple[Path, OSError | None]]:
    """Files of runs and models at the former root, and links to folders; for unreadable folders also the error."""
    columns = [column for column in _location_columns(connection) if column[0] != "experiments"]
    locations = {row[0] for table, column in columns for row in connection.execute(f"SELECT {column} FROM {table}")}
    for location in sorted(filter(None, locations)):
        top = _local_path(location)
        if top is None or not top.is_relative_to(old):
            continue
        errors: list[OSError] = []
        for folder, folders, files in os.walk(top, onerror=errors.append):
            yield from ((Path(folder, name), None) for name in files if not is_partial(Path(name)))
            yield from ((link, None) for name in folders if (link := Path(folder, name)).is_symlink())
        # Runs without artifacts have no folder.
        absent = (errno.ENOENT, errno.ENOTDIR)
        yield from ((Path(error.filename), error) for error in errors if error.errno not in absent)


def _format_skipped(skipped: list[str]) -> str:
    more = len(skipped) - _MAX_LISTED
    return ", ".join(skipped[:_MAX_LISTED]) + (f", and {more} more" if more > 0 else "")


def _local_path(location: str) -> Path | None:
    """The folder of a location; None if it is on a server."""
    if location.startswith("file:"):
        return Path(url2pathname(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def _is_same_path(one: Path, other: Path) -> bool:
    """Whether both paths refer to one file or folder, which may have several names."""
    try:
        return one.samefile(other)
    except OSError:
        return one == other
