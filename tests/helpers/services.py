"""PostgreSQL and an MLflow server on loopback, for tests that need real ones."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

BINARIES = Path(sys.executable).parent


def find_program(name: str) -> Path | None:
    """A program of PostgreSQL, which Debian does not put on the path."""
    found = shutil.which(name)
    if found:
        return Path(found)
    return next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None)


def reason_to_skip() -> str:
    """Why the services cannot be started here; empty if they can."""
    if find_program("initdb") is None or find_program("postgres") is None:
        return "PostgreSQL is not installed"
    return "" if importlib.util.find_spec("psycopg2") else "psycopg2 is not installed: pip install '.[servers]'"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while not ready():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


class Service:
    """A program that is started, stopped and started again."""

    def __init__(self, command: list[str], log: Path, ready: Callable[[], bool], user: str | None = None) -> None:
        self._command, self._log, self._ready, self._user = command, log, ready, user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True, user=self._user, cwd=self._log.parent
            )
        _wait(self._ready, self._process, self._log)

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """End it and all that it started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signum)
            self._process.wait(60)


class Services:
    """Both, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        # PostgreSQL refuses to be run by root.
        user = pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None
        data, port = folder / "data", _free_port()
        if user:
            shutil.chown(folder, user)
        initdb = [str(find_program("initdb")), "-D", str(data), "-U", "lpaint", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)
        self._database = f"postgresql://lpaint@127.0.0.1:{port}/postgres"
        postgres = [str(find_program("postgres")), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
        self.postgres = Service(
            [*postgres, "-k", str(folder), "-c", "fsync=off"], folder / "postgres.log", self._database_answers, user
        )
        port = _free_port()
        self.uri = f"http://127.0.0.1:{port}"
        server = [str(BINARIES / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        database = self._database.replace("postgresql", "postgresql+psycopg2")
        places = ["--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts")]
        self.mlflow = Service([*server, *places], folder / "mlflow.log", self._server_answers)

    def _database_answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self._database).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _server_answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def count(self, table: str) -> int:
        """Rows of a table of MLflow's."""
        import psycopg2

        with psycopg2.connect(self._database) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            row = cursor.fetchone()
        connection.close()
        assert row is not None
        return int(row[0])
