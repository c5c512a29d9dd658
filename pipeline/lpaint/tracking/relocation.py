"""The repository's own MLflow database after the repository was moved, renamed or copied.

MLflow stores the absolute location of every experiment, run and model. In a repository that lies elsewhere now, they
point to where it was: models are not found, and new artifacts go into the old folder, which for a copy is the original.
So the locations below the former root are rewritten to the present one.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

ARTIFACTS = "mlartifacts"
_DATABASE = "mlflow.db"
_LOCK_PATIENCE = 5.0
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
    artifacts elsewhere is left alone.
    """
    database = root / _DATABASE
    if not database.is_file():
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
    moved = (root / ARTIFACTS).is_dir() or (old / _DATABASE).exists() or not location.exists()
    return old if moved else None


def follow(root: Path, experiment: str) -> str:
    """Have the database at ``root`` look for artifacts there, if it was made elsewhere; what was done, or nothing.

    Artifacts of its runs that lie at the former place alone are copied from there; nothing there is changed.

    Raises:
        OSError: artifacts cannot be copied.
        sqlite3.Error: the database cannot be written.
    """
    old = former_root(root, experiment)
    if old is None:
        return ""
    with closing(sqlite3.connect(root / _DATABASE, timeout=_LOCK_PATIENCE, isolation_level=None)) as connection:
        brought = _bring(connection, old, root)
        connection.execute("BEGIN IMMEDIATE")
        try:
            counts = [_rewrite(connection, *place, old, root) for place in _existing(connection)]
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    was = f"is a copy of {old}" if (old / _DATABASE).exists() else f"was in {old} before"
    copied = f", {brought} of them copied from there" if brought else ""
    return (
        f"this repository {was}: MLflow now looks for its artifacts in {root / ARTIFACTS} "
        f"({sum(counts)} locations changed{copied})"
    )


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


def _bring(connection: sqlite3.Connection, old: Path, new: Path) -> int:
    """Copy folders of runs and models that are at the former place alone; how many there were.

    An earlier version of lpaint made the former folder anew, and wrote there.
    """
    brought = 0
    for table, column in _existing(connection):
        if table == "experiments":
            continue
        for (location,) in connection.execute(f"SELECT {column} FROM {table}").fetchall():
            source = _local(location or "")
            if source is None or not source.is_relative_to(old) or not source.is_dir():
                continue
            target = new / source.relative_to(old)
            if not target.exists():
                _copy(source, target)
                brought += 1
    return brought


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, whole or not at all."""
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source, temporary)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
