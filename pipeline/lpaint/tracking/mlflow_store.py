"""Connection to MLflow's store: its location, its availability, and how to find or create a run there."""

import logging
import os
import socket
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lpaint.errors import one_line
from lpaint.files import lock_file
from lpaint.runtime.messages import notify
from lpaint.runtime.paths import repository_root
from lpaint.tracking.events import Event
from lpaint.tracking.relocation import ARTIFACTS, former_root, relocate

EXPERIMENT = "lpaint"
REGISTERED_MODEL = "lpaint-actor"
# Tag with the id that a run had in its file before it was imported.
IMPORTED_FROM = "lpaint.imported_from"
# Timeouts of the availability check, and delays between attempts (doubled each time), in seconds.
_TIMEOUT = 3.0
_LOCK_TIMEOUT = 5.0
_FIRST_DELAY, _MAX_DELAY = 2.0, 60.0


def summarize_error(error: Exception) -> str:
    """The cause of an error, without the text that SQLAlchemy and urllib3 put around it."""
    text = one_line(error, 10_000)
    for noise in (" [SQL:", " (Background on", " with exception HTTP"):
        text = text.partition(noise)[0]
    text = text.rpartition("Error) ")[2]
    return text[:300] or type(error).__name__


class RunNotFoundError(Exception):
    """The store does not have the run that events add to."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} is not in this store; import that run's file first, or set MLFLOW_TRACKING_URI")


class StoreUnavailableError(Exception):
    """The store failed recently, and the delay before the next attempt has not passed."""


class StoreConnection:
    """Connects to the store at ``uri`` on first use, with exponential backoff while the store is unavailable.

    None = the store of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the repository's root.
    """

    def __init__(self, uri: str | None = None) -> None:
        self._uri = uri
        self._client: Any = None
        self._experiment = ""
        self._delay = self._next = 0.0
        self.failure = ""

    @property
    def unavailable(self) -> bool:
        """Whether the last call failed."""
        return bool(self.failure)

    def record_failure(self, error: Exception) -> None:
        """Note a failed call and double the delay before the next one."""
        self.failure = summarize_error(error)
        self._delay = min(_MAX_DELAY, 2 * self._delay or _FIRST_DELAY)
        self._next = time.monotonic() + self._delay

    def record_success(self) -> None:
        """Note a successful call."""
        self.failure, self._delay = "", 0.0

    def reset_backoff(self) -> None:
        """Allow the next call at once."""
        self._next = 0.0

    def client(self) -> Any:
        """Check that the store answers, then return a client of it; takes a few seconds at most.

        Raises:
            StoreUnavailableError: the last call failed, and its delay has not passed.
            Exception: whatever the store or its client raises.
        """
        if self.unavailable and time.monotonic() < self._next:
            raise StoreUnavailableError(self.failure)
        _check_reachable(self._uri or os.environ.get("MLFLOW_TRACKING_URI") or _own_store_uri())
        if self._client is None:
            self._client, self._experiment = connect(self._uri)
        return self._client

    def find_run(self, run_id: str) -> str | None:
        """The id in MLflow of an active run; None if there is none.

        A run that was logged to a file has another id there, which is found too.
        """
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
            return run_id if run.info.lifecycle_stage == "active" else None
        except MlflowException as error:
            # Some stores reject ids of files, which do not have MLflow's form.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        found = self._client.search_runs([self._experiment], f"tags.`{IMPORTED_FROM}` = '{run_id}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def create_run(self, start: Event, origin: str = "") -> str:
        """Create the run of a start event, without its parameters; returns its id."""
        tags = {name: self._mlflow_tag(name, value) for name, value in start["tags"].items()}
        if origin:
            tags[IMPORTED_FROM] = origin
        run = self._client.create_run(self._experiment, start["time"], tags, start["stage"])
        return str(run.info.run_id)

    def _mlflow_tag(self, name: str, value: str) -> str:
        """A tag's value; the id of an upstream run in its file is replaced by that run's id in MLflow."""
        return (self.find_run(value) or value) if name.startswith("upstream.") else value


def connect(uri: str | None = None) -> tuple[Any, str]:
    """A client of the store at ``uri`` and the id of lpaint's experiment there, which is created if missing.

    None = the store of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the repository's root.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # No retries: events that a server does not take at once are spooled while the stage continues.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings.filterwarnings("ignore", module="mlflow")
    import mlflow

    for name in ("mlflow", "alembic"):
        # The caller reports errors, once.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    chosen = uri or named or _own_store_uri()
    mlflow.set_tracking_uri(chosen)
    if not named:
        # mlflow.set_tracking_uri sets the variable too, and the next run would think that the user set it.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    with _migration_lock(), _empty_database_on_error(_sqlite_file(chosen)):
        if not (uri or named):
            _relocate_if_moved()
        client = mlflow.MlflowClient()
        experiment = _experiment_id(client)
    mlflow.set_experiment(EXPERIMENT)
    return client, experiment


def stale_store_root() -> Path | None:
    """The repository's former root, if its own store still refers to it; None if MLFLOW_TRACKING_URI names a store."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else former_root(repository_root(), EXPERIMENT)


def relocate_own_store() -> str:
    """Rewrite the artifact locations of the repository's own store to its present root.

    Returns:
        What was done; empty if nothing.

    Raises:
        OSError, sqlite3.Error: the store cannot be changed.
    """
    if stale_store_root() is None:
        return ""
    with _migration_lock():
        return relocate(repository_root(), EXPERIMENT)


def _relocate_if_moved() -> None:
    """``relocate`` for a caller that holds the lock. A read-only database stays usable for reading."""
    try:
        note = relocate(repository_root(), EXPERIMENT)
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise
        note = f"MLflow looks for artifacts where this repository was, and mlflow.db cannot be changed ({error})"
    if note:
        notify(f"note: {note}")


def store_exists(uri: str | None) -> bool:
    """Whether there can be a store to read; False only if the repository's own store is meant and missing."""
    return bool(uri or os.environ.get("MLFLOW_TRACKING_URI")) or (repository_root() / "mlflow.db").exists()


def _check_reachable(uri: str) -> None:
    """Raise within seconds if a store does not answer or cannot be written.

    MLflow itself waits for minutes for a hanging server and for a locked or missing database.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme == "sqlite":
        _check_sqlite(_sqlite_file(uri))
    elif scheme in ("http", "https"):
        _check_server(uri)
    elif scheme in ("postgresql", "mysql", "mssql"):
        from sqlalchemy import make_url

        named = make_url(uri)
        port = named.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}[scheme]
        if named.host:
            with closing(socket.create_connection((named.host, port), _TIMEOUT)):
                pass


def _check_sqlite(path: Path | None) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for each in (path.parent, path):
            # MLflow's connection pool would keep a read-only connection.
            if each.exists() and not os.access(each, os.W_OK):
                raise OSError(f"{each.name} is read-only")
        with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        raise OSError(f"{path}: {error}") from None


def _sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite database; None for other stores."""
    from sqlalchemy import make_url

    named = make_url(uri).database if uri.startswith("sqlite") else None
    return Path(named) if named and named != ":memory:" else None


def _check_server(uri: str) -> None:
    import requests

    # The URL without parts that may hold a password.
    named = urlsplit(uri)._replace(query="", fragment="")
    shown = named._replace(netloc=named.netloc.rpartition("@")[2]).geturl()
    try:
        status = requests.get(f"{uri.rstrip('/')}/health", timeout=_TIMEOUT).status_code
    except requests.exceptions.SSLError:
        return  # The server answers; the real calls check certificates.
    except requests.exceptions.RequestException:
        raise OSError(f"{shown} does not answer") from None
    # Any other status means that the server answers; these are a proxy's for a server that does not.
    if status in (502, 503, 504):
        raise OSError(f"{shown} answers with status {status}")


@contextmanager
def _empty_database_on_error(database: Path | None) -> Iterator[None]:
    """Empty a new database if its creation fails: MLflow can neither use nor repair an incomplete one."""
    fresh = database is not None and not (database.exists() and database.stat().st_size)
    try:
        yield
    except BaseException:
        if fresh and database is not None:
            # Emptied, not removed: MLflow's connections keep it open.
            with suppress(OSError):
                os.truncate(database, 0)
            database.with_name(f"{database.name}-journal").unlink(missing_ok=True)
        raise


@contextmanager
def _migration_lock() -> Iterator[None]:
    """Let one process at a time migrate a new database; without the lock all others fail."""
    folder = repository_root() / ".lpaint"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "mlflow.lock").open("w")
    except OSError:
        yield  # A read-only repository has no database to migrate.
        return
    with lock:
        lock_file(lock)
        yield


def _experiment_id(client: Any) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    # The default location is relative to the current folder, which DVC may make a temporary one.
    own = client.tracking_uri == _own_store_uri()
    location = (repository_root() / ARTIFACTS).as_uri() if own else None
    try:
        return str(client.create_experiment(EXPERIMENT, location))
    except MlflowException:
        # Another machine may have created it meanwhile.
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def _own_store_uri() -> str:
    return f"sqlite:///{repository_root() / 'mlflow.db'}"
