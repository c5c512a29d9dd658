"""MLflow's store: where it is, whether it answers, how a run there is found or made."""

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
from lpaint.tracking.relocation import ARTIFACTS, follow, former_root

EXPERIMENT = "lpaint"
REGISTERED_MODEL = "lpaint-actor"
# The id that a run had in a file before it was in MLflow.
ORIGIN = "lpaint.imported_from"
# Seconds that a store has to give a sign of life; and between attempts at one that gave none, doubled each time.
_PATIENCE = 3.0
_LOCK_PATIENCE = 5.0
_FIRST_DELAY, _LONGEST_DELAY = 2.0, 60.0


def reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    text = one_line(error, 10_000)
    # Without what SQLAlchemy and urllib3 put around it.
    for noise in (" [SQL:", " (Background on", " with exception HTTP"):
        text = text.partition(noise)[0]
    text = text.rpartition("Error) ")[2]
    return text[:300] or type(error).__name__


class RunMissingError(Exception):
    """The run that something adds to is not in the store."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"run {run_id} is not in this store; bring that run's file in first, or set MLFLOW_TRACKING_URI"
        )


class AwayError(Exception):
    """The store did not answer lately, and it is too soon to ask again."""


class Store:
    """The store at ``uri``, connected to when first needed, and asked less and less often while it does not answer.

    None = that of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the repository's root.
    """

    def __init__(self, uri: str | None = None) -> None:
        self._uri = uri
        self._client: Any = None
        self._experiment = ""
        self._delay = self._next = 0.0
        self.reason = ""

    @property
    def away(self) -> bool:
        """Whether it failed when it was last asked."""
        return bool(self.reason)

    def failed(self, error: Exception) -> None:
        """Leave it alone for a while."""
        self.reason = reason(error)
        self._delay = min(_LONGEST_DELAY, 2 * self._delay or _FIRST_DELAY)
        self._next = time.monotonic() + self._delay

    def answered(self) -> None:
        """It works."""
        self.reason, self._delay = "", 0.0

    def ask_at_once(self) -> None:
        """Forget how long it was to be left alone."""
        self._next = 0.0

    def client(self) -> Any:
        """A client of a store that has just given a sign of life; takes a few seconds at most.

        Raises:
            AwayError: it failed a moment ago. Anything else: what the store or its client raises.
        """
        if self.away and time.monotonic() < self._next:
            raise AwayError(self.reason)
        _probe(self._uri or os.environ.get("MLFLOW_TRACKING_URI") or _own_store())
        if self._client is None:
            self._client, self._experiment = connect(self._uri)
        return self._client

    def find(self, run_id: str) -> str | None:
        """The id of a run that is not deleted, by its id or by that which it had in a file; None if there is none."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
            return run_id if run.info.lifecycle_stage == "active" else None
        except MlflowException as error:
            # A file's id is none of MLflow's, of which some stores have an idea of their own.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        found = self._client.search_runs([self._experiment], f"tags.`{ORIGIN}` = '{run_id}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def create_run(self, start: Event, origin: str = "") -> str:
        """Make the run of a start event, without its parameters; its id."""
        tags = {name: self._translated(name, value) for name, value in start["tags"].items()}
        if origin:
            tags[ORIGIN] = origin
        run = self._client.create_run(self._experiment, start["time"], tags, start["stage"])
        return str(run.info.run_id)

    def _translated(self, name: str, value: str) -> str:
        """A tag's value; the id of another run in its file becomes that run's id in MLflow."""
        return (self.find(value) or value) if name.startswith("upstream.") else value


def connect(uri: str | None = None) -> tuple[Any, str]:
    """A client of the store at ``uri`` and the id of lpaint's experiment there, which is made if need be.

    None = the store of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the repository's root.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # What a tracking server does not take at once is kept and tried again later, while the stage goes on.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings.filterwarnings("ignore", module="mlflow")
    import mlflow

    for name in ("mlflow", "alembic"):
        # What fails is told once, by whom it concerns.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    chosen = uri or named or _own_store()
    mlflow.set_tracking_uri(chosen)
    if not named:
        # Setting the URI sets the variable too, where the next run would take it for the user's choice.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    with _alone_in_the_repository(), _whole_or_not_at_all(_sqlite_file(chosen)):
        if not (uri or named):
            _follow_the_repository()
        client = mlflow.MlflowClient()
        experiment = _experiment_id(client)
    mlflow.set_experiment(EXPERIMENT)
    return client, experiment


def misplaced_root() -> Path | None:
    """Where the repository was, if its own store still looks for artifacts there; None where another store is named."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else former_root(repository_root(), EXPERIMENT)


def mend_own_store() -> str:
    """Have the repository's own store look for artifacts where the repository is now; what was done, or nothing.

    Raises:
        OSError, sqlite3.Error: it cannot be done.
    """
    if misplaced_root() is None:
        return ""
    with _alone_in_the_repository():
        return follow(repository_root(), EXPERIMENT)


def _follow_the_repository() -> None:
    """The same for a caller that has the lock; a database that cannot be written can still be read."""
    try:
        done = follow(repository_root(), EXPERIMENT)
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error):
            raise
        done = f"MLflow looks for artifacts where this repository was, and mlflow.db cannot be changed ({error})"
    if done:
        notify(f"note: {done}")


def own_store_exists(uri: str | None) -> bool:
    """Whether there can be anything to read: false only where the repository's own store is meant and is not there."""
    return bool(uri or os.environ.get("MLFLOW_TRACKING_URI")) or (repository_root() / "mlflow.db").exists()


def _probe(uri: str) -> None:
    """Raise what is wrong with a store that gives no sign of life, or cannot be written, within seconds.

    MLflow itself waits for minutes for a server that hangs, and for a locked or missing database.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme == "sqlite":
        _probe_sqlite(_sqlite_file(uri))
    elif scheme in ("http", "https"):
        _probe_server(uri)
    elif scheme in ("postgresql", "mysql", "mssql"):
        from sqlalchemy import make_url

        named = make_url(uri)
        port = named.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}[scheme]
        if named.host:
            with closing(socket.create_connection((named.host, port), _PATIENCE)):
                pass


def _probe_sqlite(path: Path | None) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for place in (path.parent, path):
            # Opened now, it would stay read-only in MLflow's pool of connections.
            if place.exists() and not os.access(place, os.W_OK):
                raise OSError(f"{place.name} is read-only")
        with closing(sqlite3.connect(path, timeout=_LOCK_PATIENCE)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        raise OSError(f"{path}: {error}") from None


def _sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite database; None for other stores."""
    from sqlalchemy import make_url

    named = make_url(uri).database if uri.startswith("sqlite") else None
    return Path(named) if named and named != ":memory:" else None


def _probe_server(uri: str) -> None:
    import requests

    # Without what may be a password.
    named = urlsplit(uri)._replace(query="", fragment="")
    shown = named._replace(netloc=named.netloc.rpartition("@")[2]).geturl()
    try:
        status = requests.get(f"{uri.rstrip('/')}/health", timeout=_PATIENCE).status_code
    except requests.exceptions.SSLError:
        return  # A sign of life; certificates are the real calls' affair.
    except requests.exceptions.RequestException:
        raise OSError(f"{shown} does not answer") from None
    # An answer is a sign of life whatever it says, but for what a proxy says of a server that is gone.
    if status in (502, 503, 504):
        raise OSError(f"{shown} answers with status {status}")


@contextmanager
def _whole_or_not_at_all(database: Path | None) -> Iterator[None]:
    """MLflow can neither use nor mend a database in whose making it was stopped, as by a full disk."""
    fresh = database is not None and not (database.exists() and database.stat().st_size)
    try:
        yield
    except BaseException:
        if fresh and database is not None:
            # Emptied and not removed: MLflow's connections hold on to it.
            with suppress(OSError):
                os.truncate(database, 0)
            database.with_name(f"{database.name}-journal").unlink(missing_ok=True)
        raise


@contextmanager
def _alone_in_the_repository() -> Iterator[None]:
    """Of several processes that start on a fresh database, all but one would fail in its migration."""
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
    # The default location is relative to the process, which under DVC may run in a temporary folder.
    own = client.tracking_uri == _own_store()
    place = (repository_root() / ARTIFACTS).as_uri() if own else None
    try:
        return str(client.create_experiment(EXPERIMENT, place))
    except MlflowException:
        # Another machine may have been quicker.
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def _own_store() -> str:
    return f"sqlite:///{repository_root() / 'mlflow.db'}"
