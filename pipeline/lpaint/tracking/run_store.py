"""Reading runs and registered models from MLflow, for comparisons and promotion."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpaint.errors import DataError, ModelError, one_line
from lpaint.tracking.mlflow_store import REGISTERED_MODEL, connect, store_exists

_PAGE = 1000
CHAMPION = "champion"


@dataclass(frozen=True)
class TrackedRun:
    """A stage's run: ``status`` is MLflow's (FINISHED, FAILED, ...), ``start_time`` is in milliseconds since 1970.

    ``metrics`` has the last value of each metric.
    """

    run_id: str
    status: str
    start_time: int
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registered model, and the run that trained it."""

    version: str
    run_id: str


class RunStore:
    """Reads the store at ``uri``; None = the store of ``MLFLOW_TRACKING_URI``, or the repository's own.

    A store that does not exist counts as empty and is not created.

    Raises:
        DataError: the store cannot be read.
    """

    def __init__(self, uri: str | None = None) -> None:
        self._client: Any = None
        self._experiment = ""
        if store_exists(uri):
            with _data_errors(uri):
                self._client, self._experiment = connect(uri)

    def runs(self, stage: str) -> list[TrackedRun]:
        """All runs of a stage, oldest first."""
        if self._client is None:
            return []
        found, token = [], None
        with _data_errors():
            while True:
                page = self._client.search_runs(
                    [self._experiment],
                    f"tags.stage = '{stage}'",
                    max_results=_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                found += [_tracked_run(run) for run in page]
                token = page.token
                if not token:
                    return found

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """All (step, value) pairs of a metric, by step."""
        with _data_errors():
            rows = self._client.get_metric_history(run_id, metric)
        # A resumed training logs some steps again; the latest value counts.
        latest = {row.step: row for row in sorted(rows, key=lambda row: row.timestamp)}
        return [(step, float(latest[step].value)) for step in sorted(latest)]

    def artifact(self, run_id: str, path: str, folder: Path) -> Path | None:
        """Download an artifact of a run into ``folder``; None if the run has no such artifact."""
        from mlflow.exceptions import MlflowException

        try:
            return Path(self._client.download_artifacts(run_id, path, str(folder)))
        except (MlflowException, OSError):
            return None

    def versions(self) -> list[RegisteredVersion]:
        """Versions of the registered model, oldest first."""
        if self._client is None:
            return []
        with _data_errors():
            found = self._client.search_model_versions(f"name = '{REGISTERED_MODEL}'")
        found = sorted(found, key=lambda each: int(each.version))
        return [RegisteredVersion(str(each.version), str(each.run_id)) for each in found]

    def run(self, run_id: str) -> TrackedRun | None:
        """The run with this id; None if it was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return _tracked_run(self._client.get_run(run_id))
        except MlflowException:
            return None

    def alias(self, name: str) -> RegisteredVersion | None:
        """The version of the registered model with an alias; None if no version has it."""
        from mlflow.exceptions import MlflowException

        if self._client is None:
            return None
        try:
            found = self._client.get_model_version_by_alias(REGISTERED_MODEL, name)
        except MlflowException:
            return None
        return RegisteredVersion(str(found.version), str(found.run_id))

    def set_alias(self, name: str, version: str) -> None:
        """Give an alias to a version of the registered model."""
        with _data_errors():
            self._client.set_registered_model_alias(REGISTERED_MODEL, name, version)

    def fetch_model(self, version: str, folder: Path) -> Path:
        """Download the ONNX file of a version into ``folder``.

        Raises:
            ModelError: the store no longer has it.
        """
        import mlflow.artifacts

        try:
            with _data_errors():
                uri = f"models:/{REGISTERED_MODEL}/{version}"
                found = sorted(Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))).rglob("*.onnx"))
        except DataError as error:
            raise ModelError(f"version {version} of {REGISTERED_MODEL} cannot be fetched: {error}") from None
        if not found:
            with _data_errors():
                place = self._client.get_model_version_download_uri(REGISTERED_MODEL, version)
            raise ModelError(
                f"version {version} of {REGISTERED_MODEL} holds no ONNX file in {place}; "
                "restore that folder, or export and register the model again"
            )
        return found[0]


def _tracked_run(run: Any) -> TrackedRun:
    return TrackedRun(
        str(run.info.run_id),
        str(run.info.status),
        int(run.info.start_time),
        dict(run.data.params),
        dict(run.data.tags),
        {name: float(value) for name, value in run.data.metrics.items()},
    )


@contextmanager
def _data_errors(uri: str | None = None) -> Iterator[None]:
    """Turn any error of the store, which may have many types, into DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = one_line(error)
        where = f" at {uri}" if uri else ""
        raise DataError(f"MLflow's store{where} cannot be read ({reason}); check MLFLOW_TRACKING_URI") from None
