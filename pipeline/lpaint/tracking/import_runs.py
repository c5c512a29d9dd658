"""Import of run files into MLflow."""

from collections.abc import Iterable
from pathlib import Path

from lpaint.errors import DataError
from lpaint.runtime.messages import notify
from lpaint.tracking.events import EventFile, SpooledRun
from lpaint.tracking.mlflow_store import RunNotFoundError, StoreConnection, summarize_error
from lpaint.tracking.outbox import Outbox, RejectedError


def import_runs(paths: Iterable[Path]) -> list[tuple[Path, str, bool]]:
    """Import each file as an MLflow run. Links between runs are kept; ``paths`` may be in any order.

    Times, steps and statuses come from the file. Events that MLflow already has are skipped, so a run that a stage
    started there gets its missing events. An incomplete last line of a killed process is ignored.

    Returns:
        For each file its path, its run's id in MLflow, and whether events were imported.

    Raises:
        DataError: a file is missing or is no tracked run, it adds to a run that is not in the store, or MLflow's store
            cannot be written. The other files are imported.
    """
    files = [EventFile(path) for path in paths]
    spooled = sorted(((file, file.read()) for file in files), key=lambda each: each[1].events[0]["time"])
    store, done, failed = StoreConnection(), [], []
    for file, run in spooled:
        try:
            done.append((file.path, *_import_file(store, file, run)))
        except DataError as error:
            failed.append(str(error))
        except RunNotFoundError as error:
            failed.append(f"{file.path}: {error}")
        except Exception as error:
            # MLflow's stores raise exceptions of many types.
            failed.append(f"{file.path}: MLflow rejects it ({summarize_error(error)}); repair the store and try again")
    if failed:
        raise DataError("; ".join(failed))
    return done


def _import_file(store: StoreConnection, file: EventFile, spooled: SpooledRun) -> tuple[str, bool]:
    client = store.client()
    start = spooled.events[0]
    known = store.find_run(spooled.mlflow_run) if spooled.mlflow_run else None
    if known is not None and spooled.flushed >= len(spooled.events):
        return known, False
    if known is None and not (start.get("mlflow") or start.get("resumed")):
        known = store.find_run(start["run"])
        # Another copy of the file was imported.
        if known is not None and client.get_run(known).info.status != "RUNNING":
            return known, False
    outbox = Outbox(store, file, _report)
    outbox.flush()
    if spooled.events[-1]["event"] != "end" and not start.get("adds"):
        client.set_terminated(outbox.run_id, "KILLED", spooled.events[-1]["time"])
    return outbox.run_id, True


def _report(error: RejectedError) -> None:
    notify(f"warning: {error}")
