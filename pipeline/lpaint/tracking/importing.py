"""Bringing runs, or parts of runs, that are in files of JSON lines into MLflow."""

from collections.abc import Iterable
from pathlib import Path

from lpaint.errors import DataError
from lpaint.runtime.messages import notify
from lpaint.tracking.events import EventFile, Kept
from lpaint.tracking.mlflow_store import RunMissingError, Store, reason
from lpaint.tracking.outbox import RefusedError, Replay


def import_runs(paths: Iterable[Path]) -> list[tuple[Path, str, bool]]:
    """Make an MLflow run of each file; files that build on each other's runs stay linked, in whatever order they come.

    Times, steps and statuses are those of the file. What MLflow has of a file already is left alone: a run that a stage
    began there while it answered gets what is missing. A last line that a killed process left unfinished is ignored.

    Returns:
        For each file its path, its run's id in MLflow, and whether anything was imported now.

    Raises:
        DataError: a file is missing or is no tracked run, or it adds to a run that is not in the store, or MLflow's
            store cannot be written. The other files are imported.
    """
    files = [EventFile(path) for path in paths]
    kept = sorted(((file, file.read()) for file in files), key=lambda each: each[1].events[0]["time"])
    store, done, failed = Store(), [], []
    for file, events in kept:
        try:
            done.append((file.path, *_import_one(store, file, events)))
        except DataError as error:
            failed.append(str(error))
        except RunMissingError as error:
            failed.append(f"{file.path}: {error}")
        except Exception as error:
            # Stores raise whatever they like.
            failed.append(f"{file.path}: MLflow does not take it ({reason(error)}); mend the store and try again")
    if failed:
        raise DataError("; ".join(failed))
    return done


def _import_one(store: Store, file: EventFile, kept: Kept) -> tuple[str, bool]:
    client = store.client()
    start = kept.events[0]
    known = store.find(kept.run) if kept.run else None
    if known is not None and kept.count >= len(kept.events):
        return known, False
    if known is None and not (start.get("mlflow") or start.get("resumed")):
        known = store.find(start["run"])
        # Another copy of the file was imported.
        if known is not None and client.get_run(known).info.status != "RUNNING":
            return known, False
    replay = Replay(store, file, _report)
    replay.deliver()
    if kept.events[-1]["event"] != "end" and not start.get("adds"):
        client.set_terminated(replay.run_id, "KILLED", kept.events[-1]["time"])
    return replay.run_id, True


def _report(error: RefusedError) -> None:
    notify(f"warning: {error}")
