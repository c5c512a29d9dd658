"""The only place that knows MLflow.

A run starts at the first thing logged, or when ``resume_from`` finds the run of an interrupted training. Tracking never
stops a stage: if the store fails, one warning says so and the stage goes on.
"""

import fcntl
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lpaint.files import write_text
from lpaint.paths import repository_root
from lpaint.tracking.base import NullTracker, Tracker

EXPERIMENT = "lpaint"
REGISTERED_MODEL = "lpaint-actor"
_FLUSH_EVERY = 200
_FLUSH_SECONDS = 10.0
_LONGEST_PARAM = 500


class MlflowTracker:
    """Logs to the store of ``MLFLOW_TRACKING_URI``, or to ``mlflow.db`` in the repository's root."""

    def __init__(
        self,
        stage: str,
        params: dict[str, Any],
        tags: dict[str, str],
        run_id: str = "",
        began: int | None = None,
    ) -> None:
        self.stage, self.run_id = stage, run_id
        self._params, self._tags = params, tags
        self._buffer: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._began = int(time.time() * 1000) if began is None else began
        self._broken = False
        self.failure = ""
        self._client: Any = None
        self._experiment = ""
        self._others: list[MlflowTracker] = []

    def resume_from(self, directory: Path) -> None:
        """See ``Tracker``."""
        remembered = directory / "run_id"
        if remembered.is_file():
            self._attempt(self._reopen, remembered.read_text(encoding="utf-8").strip())
        self._attempt(self._start)
        if self.run_id:
            write_text(remembered, self.run_id)

    def log_params(self, params: dict[str, Any]) -> None:
        """Parameters not logged before; a run's parameters cannot change, so known ones are left alone."""
        self._attempt(self._log_params, params)

    def log_metrics(self, metrics: dict[str, float], step: int = 0, when: int | None = None) -> None:
        """Buffered; written in batches, since single calls to a store are slow. ``when``: milliseconds; None = now."""
        if self._broken:
            return
        now = int(time.time() * 1000) if when is None else when
        self._buffer += [(name, float(value), now, step) for name, value in metrics.items()]
        if len(self._buffer) >= _FLUSH_EVERY or time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def log_image(self, name: str, image: np.ndarray, step: int | None = None) -> None:
        """See ``Tracker``; with a step it appears in MLflow's image grid."""
        if step is None:
            self._attempt(lambda: self._started().log_image(self.run_id, image, artifact_file=f"images/{name}.png"))
        else:
            self._attempt(lambda: self._started().log_image(self.run_id, image, key=name, step=step))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """See ``Tracker``."""
        self._attempt(lambda: self._started().log_artifact(self.run_id, str(path), folder or None))

    def set_tags(self, tags: dict[str, str]) -> None:
        """See ``Tracker``."""
        self._attempt(lambda: [self._started().set_tag(self.run_id, name, value) for name, value in tags.items()])

    def log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        """See ``Tracker``."""
        self._attempt(self._log_onnx_model, path, name, register)

    def for_run(self, run_id: str | None) -> Tracker:
        """See ``Tracker``. What it buffers is written by its own ``flush``; ``end`` of this tracker calls it."""
        if run_id is None:
            return NullTracker()
        other = MlflowTracker(self.stage, {}, {}, run_id)
        # Connected first, so that a store that is away is found, waited for and reported once.
        self._attempt(self._connect)
        other._client, other._broken = self._client, self._broken
        self._others.append(other)
        return other

    def flush(self) -> None:
        """Write the buffered metrics."""
        if self._buffer:
            self._attempt(self._flush)

    def end(self, status: str, when: int | None = None) -> None:
        """Write what is buffered and end the run as FINISHED, FAILED or KILLED, ``when`` (milliseconds) or now."""
        for other in self._others:
            other.flush()
        self.flush()
        if self.run_id:
            self._attempt(lambda: self._started().set_terminated(self.run_id, status, when))

    def _attempt(self, action: Callable[..., Any], *arguments: Any) -> None:
        if self._broken:
            return
        try:
            action(*arguments)
        except Exception as error:
            # Whatever the store or its client raises, hours of training must not die of it.
            self._broken = True
            self.failure = " ".join(str(error).split())[:300]
            print(f"warning: MLflow tracking stopped ({self.failure}); the stage goes on without it", file=sys.stderr)

    def _started(self) -> Any:
        if self._client is None or not self.run_id:
            self._start()
        return self._client

    def _connect(self) -> Any:
        if self._client is None:
            self._client, self._experiment = connect()
        return self._client

    def _start(self) -> None:
        client = self._connect()
        if self.run_id:
            return
        run = client.create_run(self._experiment, self._began, self._tags, self.stage)
        self.run_id = run.info.run_id
        self._log_params(self._params)

    def _reopen(self, run_id: str) -> None:
        client = self._connect()
        try:
            client.update_run(run_id, status="RUNNING")
        except Exception:
            return  # The store or the run was deleted since: a new run is started.
        self.run_id = run_id

    def _log_params(self, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        client = self._started()
        known = client.get_run(self.run_id).data.params
        fresh = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in params.items() if name not in known]
        if fresh:
            client.log_batch(self.run_id, params=fresh)

    def _flush(self) -> None:
        from mlflow.entities import Metric

        client = self._started()
        batch, self._buffer = self._buffer, []
        for at in range(0, len(batch), 1000):
            client.log_batch(self.run_id, metrics=[Metric(*row) for row in batch[at : at + 1000]])
        self._flushed = time.monotonic()

    def _log_onnx_model(self, path: Path, name: str, register: bool) -> None:
        import mlflow.onnx
        import onnx
        from mlflow.models import Model

        self._started()
        # As mlflow.onnx.log_model does, but for a run that is not active: a run that is made active ends with its own
        # status and time afterwards, and as failed where the model cannot be logged.
        Model.log(
            artifact_path=None,
            name=name,
            flavor=mlflow.onnx,
            run_id=self.run_id,
            registered_model_name=REGISTERED_MODEL if register else None,
            onnx_model=onnx.load(path),
            pip_requirements=["onnxruntime-gpu", "numpy"],
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,
        )


def connect(uri: str | None = None) -> tuple[Any, str]:
    """A client of the store at ``uri`` and the id of lpaint's experiment there, which is made if need be.

    None = the store of ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the repository's root.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A tracking server that is gone costs seconds, not the minutes of MLflow's own patience.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    warnings.filterwarnings("ignore", module="mlflow")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    named = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri or named or _own_store())
    if not named:
        # Setting the URI sets the variable too, where the next run would take it for the user's choice.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    lock_folder = repository_root() / ".lpaint"
    lock_folder.mkdir(parents=True, exist_ok=True)
    # Of several processes that start on a fresh database, all but one would fail in its migration.
    with (lock_folder / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        client = mlflow.MlflowClient()
        experiment = _experiment_id(client)
    mlflow.set_experiment(EXPERIMENT)
    return client, experiment


def own_store_exists(uri: str | None) -> bool:
    """Whether there can be anything to read: false only where the repository's own store is meant and is not there."""
    return bool(uri or os.environ.get("MLFLOW_TRACKING_URI")) or (repository_root() / "mlflow.db").exists()


def _experiment_id(client: Any) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return str(experiment.experiment_id)
    if client.tracking_uri != _own_store():
        return str(client.create_experiment(EXPERIMENT))
    # The default location is relative to the process, which under DVC may run in a temporary folder.
    return str(client.create_experiment(EXPERIMENT, (repository_root() / "mlartifacts").as_uri()))


def _own_store() -> str:
    return f"sqlite:///{repository_root() / 'mlflow.db'}"
