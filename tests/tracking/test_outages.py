"""Stores that go away: training goes on, and nothing that it logged is lost."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run

from lpaint import tracking
from lpaint.errors import DataError
from lpaint.runtime.provenance import find_producing_run, record_output
from lpaint.tracking import MlflowTracker
from lpaint.tracking.import_runs import import_runs
from tests.helpers.commands import Outcome
from tests.helpers.tiny import ROOT, tiny_params, write_params

PICTURE = np.full((4, 4, 3), 200, np.uint8)
# Which tracker it yields depends on the parameters.
start_run: Callable[..., AbstractContextManager[Any]] = tracking.start_run


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has just been made, which takes seconds."""
    root = tmp_path_factory.mktemp("fresh")
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    with start_run("prepare", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
    patch.undo()
    return root / "mlflow.db"


class Server:
    """A store in a folder that can be taken away."""

    def __init__(self, root: Path, fresh: Path) -> None:
        self.root, self.folder, self._hidden = root, root / "server", root / "hidden"
        self.folder.mkdir()
        shutil.copy(fresh, self.folder)
        self.uri = f"sqlite:///{self.folder}/mlflow.db"

    def stop(self) -> None:
        self.folder.rename(self._hidden)
        self.folder.touch()

    def start(self) -> None:
        self.folder.unlink()
        self._hidden.rename(self.folder)

    @property
    def files(self) -> list[Path]:
        """What stages left for later."""
        return sorted((self.root / ".lpaint" / "tracking").glob("*.jsonl"))

    def run(self, run_id: str) -> Run:
        return mlflow.MlflowClient(self.uri).get_run(run_id)

    def runs(self) -> list[Run]:
        client = mlflow.MlflowClient(self.uri)
        return client.search_runs([client.get_experiment_by_name("lpaint").experiment_id], "tags.stage != 'prepare'")

    def history(self, run_id: str, name: str = "x") -> list[tuple[int, float]]:
        history = mlflow.MlflowClient(self.uri).get_metric_history(run_id, name)
        assert len({point.timestamp for point in history}) > 1 or len(history) < 2, "times are those of the logging"
        return [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)]

    def artifacts(self, run_id: str) -> set[str]:
        client = mlflow.MlflowClient(self.uri)
        found = {item.path for item in client.list_artifacts(run_id)}
        return found | {item.path for folder in found for item in client.list_artifacts(run_id, folder)}


@pytest.fixture
def server(tmp_path: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.chdir(tmp_path)
    made = Server(tmp_path, fresh)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    # MLflow keeps one engine for all that is at an address; each test has a store of its own.
    monkeypatch.setattr("lpaint.tracking.mlflow_store._FIRST_DELAY", 0.0)
    monkeypatch.setattr("lpaint.tracking.mlflow_store._LOCK_TIMEOUT", 0.1)
    return made


def _log(tracker: MlflowTracker, steps: range, pause: float = 0.002) -> None:
    for step in steps:
        tracker.log_metrics({"x": step, "y": -step}, step)
        time.sleep(pause)


def _log_all_kinds(tracker: MlflowTracker, folder: Path) -> None:
    """One of everything but metrics."""
    report = folder / "report.json"
    report.write_text("{}")
    tracker.log_params({"later": "yes"})
    tracker.set_tags({"note": "by hand"})
    tracker.log_image("sheet", PICTURE, 5)
    tracker.log_image("last", PICTURE)
    tracker.log_artifact(report, "one")
    tracker.log_artifact(report, "two")
    report.unlink()


def _assert_all_kinds(server: Server, run_id: str) -> None:
    run = server.run(run_id)
    assert run.data.params["later"] == "yes" and run.data.params["seed"] == "0" and len(run.data.params) > 100
    assert run.data.tags["note"] == "by hand"
    names = server.artifacts(run_id)
    assert {"one/report.json", "two/report.json", "images/last.png"} <= names
    assert len([name for name in names if name.startswith("images/sheet+step+5")]) == 2, "a picture and its thumbnail"


def test_server_that_comes_back_gets_everything_in_its_run(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with start_run("train_agent", tiny_params()) as tracker:
        _log(tracker, range(10))
        tracker.flush()
        began_as = tracker.run_id
        server.stop()
        _log(tracker, range(10, 150))
        _log_all_kinds(tracker, server.root)
        _log(tracker, range(150, 160))
        (file,) = server.files
        assert tracker.pending_files == [file]
        server.start()
        _log(tracker, range(160, 170))
        assert not server.files, "all is delivered while the training runs"
        _log(tracker, range(170, 180))
    assert tracker.run_id == began_as and server.run(began_as).info.status == "FINISHED"
    assert server.history(began_as) == [(step, step) for step in range(180)]
    _assert_all_kinds(server, began_as)
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2 and err[0].startswith("warning: MLflow is unavailable (") and str(file) in err[0]
    assert err[1] == "MLflow answers again; the spooled events are being imported"
    assert not list((server.root / ".lpaint/tracking").iterdir()), "nothing is left lying about"


@pytest.mark.parametrize("back", [True, False])
def test_server_gone_before_the_start(server: Server, capsys: pytest.CaptureFixture[str], back: bool) -> None:
    server.stop()
    output = server.root / "model"
    output.write_bytes(b"weights")
    with start_run("train_agent", tiny_params()) as tracker:
        tracker.resume_from(server.root)
        given = tracker.run_id
        _log(tracker, range(5))
        _log_all_kinds(tracker, server.root)
        if back:
            server.start()
    record_output(tracker.run_id, output)
    assert (server.root / "run_id").read_text() == tracker.run_id
    if not back:
        (file,) = server.files
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 2 and err[1].endswith(f"; later, run: lpaint track import {file}")
        server.start()
        assert import_runs([file]) == [(file, server.runs()[0].info.run_id, True)]
    (run,) = server.runs()
    assert run.info.status == "FINISHED" and run.data.tags["lpaint.imported_from"] == given
    assert server.history(run.info.run_id) == [(step, step) for step in range(5)]
    _assert_all_kinds(server, run.info.run_id)
    # Later stages find the run by the id that its outputs were given.
    with start_run("evaluate", tiny_params()) as evaluation:
        evaluation.for_run(find_producing_run(output)).log_metrics({"test/l2": 0.25})
    assert server.run(run.info.run_id).data.metrics["test/l2"] == 0.25


def test_pending_events_are_imported_into_the_same_run(
    server: Server, lpaint: Callable[..., Outcome], capfd: pytest.CaptureFixture[str]
) -> None:
    with start_run("train_agent", tiny_params()) as tracker:
        _log(tracker, range(10))
        tracker.flush()
        server.stop()
        _log(tracker, range(10, 20))
        _log_all_kinds(tracker, server.root)
    (file,) = server.files
    assert capfd.readouterr().err.count(str(file)) == 2
    told = lpaint("track", "import", file)
    assert told.code == 5 and "try again" in told.sentence
    server.start()
    assert server.run(tracker.run_id).info.status == "RUNNING"
    told = lpaint("track", "import", file)
    assert (told.code, told.out) == (0, f"{file}: imported as run {tracker.run_id}\n")
    assert [run.info.run_id for run in server.runs()] == [tracker.run_id]
    assert server.run(tracker.run_id).info.status == "FINISHED"
    assert server.history(tracker.run_id) == [(step, step) for step in range(20)]
    _assert_all_kinds(server, tracker.run_id)
    before = server.artifacts(tracker.run_id)
    assert lpaint("track", "import", file).out == f"{file}: was imported before, as run {tracker.run_id}\n"
    assert server.artifacts(tracker.run_id) == before


def test_flushing_twice_changes_nothing(server: Server) -> None:
    server.stop()
    with start_run("train_agent", tiny_params()) as tracker:
        _log(tracker, range(20))
        tracker.log_params({"later": "yes"})
    (file,) = server.files
    whole = file.read_text()
    server.start()
    ((_, run_id, _),) = import_runs([file])
    # As after a kill between the delivery and its note.
    mlflow.MlflowClient(server.uri).update_run(run_id, "RUNNING")
    file.write_text(whole)
    assert import_runs([file]) == [(file, run_id, True)]
    assert server.history(run_id) == [(step, step) for step in range(20)] and len(server.runs()) == 1


def test_interrupted_import_continues_where_it_stopped(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    with start_run("train_agent", tiny_params()) as tracker:
        for step in range(3):
            tracker.log_image("sheet", PICTURE, step)
    (file,) = server.files
    server.start()
    log_image, calls = mlflow.MlflowClient.log_image, []

    def fail_second(*arguments: object, **more: object) -> None:
        calls.append(more)
        if len(calls) == 2:
            raise ConnectionError("gone")
        log_image(*arguments, **more)

    monkeypatch.setattr(mlflow.MlflowClient, "log_image", fail_second)
    with pytest.raises(DataError, match="gone"):
        import_runs([file])
    ((_, run_id, fresh),) = import_runs([file])
    assert fresh and [call["step"] for call in calls] == [0, 1, 1, 2]
    assert len([name for name in server.artifacts(run_id) if name.endswith(".png")]) == 3


def test_results_for_another_run_are_spooled_too(server: Server, lpaint: Callable[..., Outcome]) -> None:
    with start_run("train_agent", tiny_params()) as agent:
        agent.log_metrics({"x": 1})
    ended = server.run(agent.run_id).info.end_time
    server.stop()
    with start_run("evaluate", tiny_params()) as evaluation:
        for tracker in (evaluation, evaluation.for_run(agent.run_id)):
            tracker.log_metrics({"test/l2": 0.25}, 100)
    assert len(server.files) == 2
    server.start()
    import_runs(server.files)
    run = server.run(agent.run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", ended)
    assert run.data.metrics == {"x": 1, "test/l2": 0.25}
    assert sorted(each.data.tags["stage"] for each in server.runs()) == ["evaluate", "train_agent"]


def test_results_for_a_run_that_is_not_there_yet_wait_for_it(
    server: Server, lpaint: Callable[..., Outcome], capfd: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    with start_run("train_agent", tiny_params()) as agent:
        agent.log_metrics({"x": 1})
    (first,) = server.files
    server.start()
    capfd.readouterr()
    with start_run("evaluate", tiny_params()) as evaluation:
        evaluation.log_metrics({"y": 1})
        evaluation.for_run(agent.run_id).log_metrics({"test/l2": 0.25})
    assert server.run(evaluation.run_id).info.status == "FINISHED"
    (second,) = set(server.files) - {first}
    told = capfd.readouterr().err
    assert told.count("\n") == 1 and f"run {agent.run_id} is not in this store" in told and str(second) in told
    assert "is not in this store" in lpaint("track", "import", second).sentence
    made = {path: run_id for path, run_id, _ in import_runs([second, first])}
    assert made[first] == made[second] and server.run(made[first]).data.metrics == {"x": 1, "test/l2": 0.25}


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "KILLED"), (DataError("x"), "FAILED")])
def test_run_ends_as_its_stage_did_with_the_server_stopped(
    server: Server, error: BaseException, status: str, back: bool
) -> None:
    with pytest.raises(type(error)), start_run("train_agent", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
        tracker.flush()
        server.stop()
        tracker.log_metrics({"x": 2}, 1)
        if back:
            server.start()
        raise error
    if not back:
        server.start()
        import_runs(server.files)
    assert server.run(tracker.run_id).info.status == status and len(server.history(tracker.run_id)) == 2


_KILLED = """
import os, signal
from pathlib import Path
from stages.runner import run_stage
def run(params, tracker):
    tracker.resume_from(Path())
    for step in range(30):
        tracker.log_metrics({"x": step}, step)
        tracker.flush()
    os.kill(os.getpid(), signal.SIGKILL)
run_stage("train_agent", run)
"""


def test_kill_in_an_outage_keeps_spooled_events_and_training_continues_its_run(server: Server) -> None:
    write_params(server.root)
    server.stop()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])}
    killed = [sys.executable, "-c", _KILLED]
    done = subprocess.run(killed, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL and done.stderr.count("\n") == 1, done.stderr
    (file,) = server.files
    file.write_text(file.read_text() + '{"event": "metr')
    server.start()
    with start_run("train_agent", tiny_params()) as tracker:
        tracker.resume_from(server.root)
        _log(tracker, range(30, 40))
    (run,) = server.runs()
    assert run.info.run_id == tracker.run_id == (server.root / "run_id").read_text()
    assert run.info.status == "FINISHED" and not server.files
    assert [step for step, _ in server.history(tracker.run_id)] == list(range(40))


def test_training_resumed_with_the_server_stopped_continues_its_run(server: Server) -> None:
    with pytest.raises(KeyboardInterrupt), start_run("train_agent", tiny_params()) as first:
        first.resume_from(server.root)
        _log(first, range(3))
        raise KeyboardInterrupt
    server.stop()
    for steps in (range(3, 6), range(6, 9)):
        with start_run("train_agent", tiny_params()) as tracker:
            tracker.resume_from(server.root)
            _log(tracker, steps)
    server.start()
    import_runs(server.files)
    (run,) = server.runs()
    assert run.info.run_id == first.run_id and run.info.status == "FINISHED"
    assert [step for step, _ in server.history(first.run_id)] == list(range(9))


def test_training_resumed_with_the_server_stopped_starts_a_run_if_its_own_is_gone(server: Server) -> None:
    (server.root / "run_id").write_text("0" * 32)
    server.stop()
    with start_run("train_agent", tiny_params()) as tracker:
        tracker.resume_from(server.root)
        _log(tracker, range(3))
    server.start()
    import_runs(server.files)
    (run,) = server.runs()
    assert run.info.status == "FINISHED" and len(server.history(run.info.run_id)) == 3


def test_locked_database_is_an_outage(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with start_run("train_agent", tiny_params()) as tracker:
        _log(tracker, range(5))
        tracker.flush()
        holder = sqlite3.connect(server.folder / "mlflow.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        _log(tracker, range(5, 10))
        tracker.flush()
        assert tracker.pending_files
        holder.execute("ROLLBACK")
        holder.close()
        _log(tracker, range(10, 15))
    assert server.history(tracker.run_id) == [(step, step) for step in range(15)]
    err = capsys.readouterr().err
    assert "database is locked" in err and err.count("\n") == 2


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream, pytest.raises(OSError):
        while True:
            stream.write(bytes(4096))
    return filler


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_store_on_a_bad_disk_is_an_outage(
    server: Server,
    fresh: Path,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
) -> None:
    _remount(disk, "size=8m")
    shutil.copy(fresh, disk)
    server.uri = f"sqlite:///{disk}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    with start_run("train_agent", tiny_params()) as tracker:
        if fault == "full":
            # In the middle; a disk with a file open for writing cannot be made read-only.
            _log(tracker, range(5))
            tracker.flush()
            filler = _fill(disk)
        else:
            _remount(disk, "ro")
            _log(tracker, range(5))
        for step in range(5, 25):
            tracker.log_metrics({"x": step} | {f"filling/{i}": step for i in range(100)}, step)
        assert tracker.pending_files, "the disk had room"
        if fault == "full":
            filler.unlink()
        else:
            _remount(disk, "rw")
        _log(tracker, range(25, 35))
    assert not tracker.pending_files
    assert server.history(tracker.run_id) == [(step, step) for step in range(35)]
    err = capsys.readouterr().err
    assert err.count("\n") == 2 and fault in err


def test_database_that_could_not_be_made_for_a_full_disk_is_made_later(
    server: Server, disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _remount(disk, "size=300k")
    server.uri = f"sqlite:///{disk}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    with start_run("train_agent", tiny_params()) as tracker:
        _log(tracker, range(1))
        tracker.flush()
        assert tracker.pending_files, "the disk had room"
        _remount(disk, "size=8m")
        _log(tracker, range(1, 5))
    assert not tracker.pending_files and len(server.history(tracker.run_id)) == 5
    assert "disk is full" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.parametrize("kind", ["mlflow", "jsonl"])
def test_training_continues_where_nothing_can_be_spooled(
    server: Server,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    fault: str,
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(disk))
    with start_run("train_agent", tiny_params(base={"tracking": kind})) as tracker:
        _log(tracker, range(5))
        if kind == "mlflow":
            tracker.flush()
            server.stop()
        filler = _fill(disk) if fault == "full" else None
        if filler is None:
            _remount(disk, "ro")
        _log(tracker, range(5, 500), pause=0)
        _log_all_kinds(tracker, server.root)
        if filler is None:
            _remount(disk, "rw")
        else:
            filler.unlink()
        _log(tracker, range(500, 505))
    err = capsys.readouterr().err.splitlines()
    assert len([line for line in err if "cannot be written (" in line and "lost" in line]) == 1
    if kind == "mlflow":
        assert len(err) == 3
        server.start()
    else:
        assert len(err) == 1
    # What was written after the fault is whole.
    (file,) = (disk / ".lpaint" / "tracking").glob("*.jsonl")
    ((_, run_id, _),) = import_runs([file])
    steps = [step for step, _ in server.history(run_id)]
    assert steps[:5] == list(range(5)) and steps[-5:] == list(range(500, 505))


@pytest.mark.parametrize("uri", ["sqlite:///{folder}/file/mlflow.db", "http://127.0.0.1:9", "nonsense://"])
def test_store_that_never_answers_is_two_sentences_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    (tmp_path / "file").write_bytes(b"no model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=tmp_path))
    with start_run("evaluate", tiny_params()) as tracker:
        other = tracker.for_run("a" * 32)
        tracker.resume_from(tmp_path)
        for each in (other, tracker):
            for step in range(500):
                each.log_metrics({"x": 1}, step)
            each.log_image("sheet", PICTURE)
            each.log_artifact(tmp_path / "file")
            each.log_onnx_model(tmp_path / "file", "actor", register=True)
        assert not other._buffer and not tracker._buffer, "it would grow as long as the training runs"
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2 and err[0].startswith("warning: MLflow is unavailable (")
    assert err[1].count(".jsonl") == 2 and tracker.run_id == (tmp_path / "run_id").read_text()


def test_rejected_events_are_skipped_and_reported_once(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    broken = server.root / "broken.onnx"
    broken.write_bytes(b"\xff\xff no model")
    with start_run("train_agent", tiny_params()) as tracker:
        for step in range(3):
            tracker.log_metrics({"good": step, "bad!name%": step}, step)
            tracker.flush()
        tracker.log_onnx_model(broken, "actor", register=True)
        tracker.log_params({"seed": "another"})
    run = server.run(tracker.run_id)
    assert run.info.status == "FINISHED" and run.data.metrics == {"good": 2}
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2 and "bad!name%" in err[0] and "is not an ONNX model" in err[1]


def test_store_is_tried_with_exponential_backoff(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], []

    def refuse(uri: str) -> None:
        asked.append(clock[0])
        raise OSError("away")

    monkeypatch.setattr("lpaint.tracking.mlflow_store.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("lpaint.tracking.mlflow_store._check_reachable", refuse)
    monkeypatch.setattr("lpaint.tracking.mlflow_store._FIRST_DELAY", 2.0)
    tracker = MlflowTracker("train_agent", {}, {})
    tracker.log_params({"a": 1})
    for _ in range(300):
        clock[0] += 1
        tracker.log_metrics({"x": 1})
    assert asked == [0, 2, 6, 14, 30, 62, 122, 182, 242]


def test_file_is_imported_by_one_process_at_a_time(server: Server) -> None:
    server.stop()
    with start_run("train_agent", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
    (file,) = server.files
    server.start()
    holding = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl; f = open({str(file)!r}); fcntl.flock(f, 2); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holding.stdout is not None and holding.stdout.readline()
    with pytest.raises(DataError, match="another process is importing it into MLflow"):
        import_runs([file])
    holding.communicate(b"\n")
    assert import_runs([file])[0][2]


def test_lines_of_the_file_are_whole_json(server: Server) -> None:
    server.stop()
    with start_run("train_agent", tiny_params()) as tracker:
        tracker.log_metrics({"x": float("nan")}, 1)
    (file,) = server.files
    events = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    assert events == ["start", "metrics", "end"]
