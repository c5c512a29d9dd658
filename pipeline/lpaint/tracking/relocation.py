"""The repository's own MLflow database after the repository was moved, renamed or copied.

MLflow stores the absolute location of every experiment, run and model. In a repository that lies elsewhere now, they
point to where it was: models are not found, and new artifacts go into the old folder, which for a copy is the original.
So the locations below the former root are rewritten to the present one.
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
_LOCK_PATIENCE = 5.0
# The note names at most this many files that were not copied.
_NAMED = 3
# Where MLflow keeps locations.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def former_root(root: Path, experiment: str) -> Path | None:
    """Where the repository at ``root`` was when its database was made; None if that is here, or nothing is known.

    lpaint gives its experiment the location ``mlartifacts`` in the repository. One that was made by hand and keeps its
    artifacts elsewhere is left alone. So is a database that the repository shares with the one at the former place: by
    a link, or by a bind mount.
    """
    database = root / _DATABASE
    if database.is_symlink() or not database.is_file():
        return None
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", timeout=_LOCK_PATIENCE, uri=True)) as connection:
        try:
            query = "SELECT artifact_location FROM experiments WHERE name = ?"
            found = connection.execute(query, (experiment,)).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
    location = _local(found[0]) if found and found[0] else None
    if location is None or location.name != ARTIFACTS or _same(location.parent, root):
        return None
    old = location.parent
    if _same(old / _DATABASE, database):
        return None
    moved = (root / ARTIFACTS).is_dir() or (old / _DATABASE).exists() or not location.exists()
    return old if moved else None


def follow(root: Path, experiment: str) -> str:
    """Have the database at ``root`` look for artifacts there, if it was made elsewhere; what was done, or nothing.

    Files of its runs and models that lie at the former place alone are copied from there. No file is overwritten, and
    nothing at the former place is changed. A file that differs here, or cannot be copied, is named in the answer.

    Raises:
        OSError: the disk is full; the locations are as before.
        sqlite3.Error: the database cannot be written.
    """
    old = former_root(root, experiment)
    if old is None:
        return ""
    with closing(sqlite3.connect(root / _DATABASE, timeout=_LOCK_PATIENCE, isolation_level=None)) as connection:
        copied, left = _bring(connection, old, root)
        connection.execute("BEGIN IMMEDIATE")
        try:
            counts = [_rewrite(connection, *place, old, root) for place in _existing(connection)]
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    was = f"is a copy of {old}" if os.access(old / _DATABASE, os.F_OK) else f"was in {old} before"
    done = f"{sum(counts)} locations changed" + (f", files copied from there: {copied}" if copied else "")
    note = f"this repository {was}: MLflow now looks for its artifacts in {root / ARTIFACTS} ({done})"
    return f"{note}; not copied from {old}: {_listed(left)}" if left else note


def _existing(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Those of ``_COLUMNS`` that this version of MLflow has."""
    return [
        (table, column)
        for table, column in _COLUMNS
        if column in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    ]


def _rewrite(connection: sqlite3.Connection, table: str, column: str, old: Path, new: Path) -> int:
    """Replace the former root at the beginning of locations; how many there were."""
    changed = 0
    for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
        statement = (
            f"UPDATE {table} SET {column} = :after || substr({column}, length(:before) + 1) "
            f"WHERE {column} = :before OR substr({column}, 1, length(:before) + 1) = :before || '/'"
        )
        changed += connection.execute(statement, {"before": before, "after": after}).rowcount
    return changed


def _bring(connection: sqlite3.Connection, old: Path, new: Path) -> tuple[int, list[str]]:
    """Copy files of runs and models that are at the former place alone; how many, and which were not copied and why.

    An earlier version of lpaint made the former folder anew, and wrote there, also for runs that have artifacts here.
    """
    copied, left = 0, {}
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
                left[name] = "differs here"
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            left[name] = f"cannot be copied: {error.strerror or error}"
    return copied, [f"{name} ({left[name]})" for name in sorted(left)]


def _former_files(connection: sqlite3.Connection, old: Path) -> Iterator[tuple[Path, OSError | None]]:
    """Files, and links to folders, of runs and models at the former place; folders that cannot be read, and why."""
    columns = [place for place in _existing(connection) if place[0] != "experiments"]
    locations = {row[0] for table, column in columns for row in connection.execute(f"SELECT {column} FROM {table}")}
    for location in sorted(filter(None, locations)):
        top = _local(location)
        if top is None or not top.is_relative_to(old):
            continue
        errors: list[OSError] = []
        for folder, folders, files in os.walk(top, onerror=errors.append):
            yield from ((Path(folder, name), None) for name in files if not is_partial(Path(name)))
            yield from ((link, None) for name in folders if (link := Path(folder, name)).is_symlink())
        # A run without artifacts has no folder.
        absent = (errno.ENOENT, errno.ENOTDIR)
        yield from ((Path(error.filename), error) for error in errors if error.errno not in absent)


def _listed(left: list[str]) -> str:
    more = len(left) - _NAMED
    return ", ".join(left[:_NAMED]) + (f", and {more} more" if more > 0 else "")


def _local(location: str) -> Path | None:
    """The folder that a location names; None for what is on a server."""
    if location.startswith("file:"):
        return Path(url2pathname(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def _same(one: Path, other: Path) -> bool:
    """Whether both are one folder, which may have several names."""
    try:
        return one.samefile(other)
    except OSError:
        return one == other
