"""Stages as tracked runs: what MLflow is told, how runs end, and that a broken store stops nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from tiny import ROOT, tiny_params, write_params

from lpaint.errors import DataError, DeviceError, LpaintError, ModelError, ParamsError, TrainingError
from lpaint.params import Params
from lpaint.stage import run_stage
from lpaint.tracking import MlflowTracker, NullTracker, Tracker, find_producer, remember_output, start_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose fresh database is made once: that takes seconds."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def root(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(store)
    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    # MLflow notes the store that it uses in the environment, where it would count as the user's choice.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.rmtree(store / ".lpaint" / "runs", ignore_errors=True)
    write_params(store)
    yield store
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(run_id: str) -> Run:
    return mlflow.MlflowClient().get_run(run_id)


def test_run_holds_params_curves_images_and_origin(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train_agent")
    monkeypatch.setenv("DVC_EXP_NAME", "hazel-dune")
    report = root / "report.json"
    report.write_text("{}")
    with start_run("train_agent", tiny_params()) as tracker:
        for step in range(3):
            tracker.log_metrics({"losses/actor": 1.0 / (step + 1)}, step)
        tracker.log_image("sheet", np.zeros((4, 4, 3), np.uint8), 2)
        tracker.log_artifact(report)
        tracker.log_params({"long": "x" * 9000})
        tracker.set_tags({"note": "by hand"})
    run = _run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert {
        "gan": "wgan_gp",
        "replay": "prioritized",
        "algorithm": "ddpg",
        "seed": "0",
    }.items() <= run.data.params.items()
    assert run.data.params["agent.per.alpha"] == "0.7" and len(run.data.params["long"]) == 500
    expected = {"stage": "train_agent", "dvc.stage": "train_agent", "dvc.experiment": "hazel-dune", "note": "by hand"}
    assert expected.items() <= run.data.tags.items()
    history = mlflow.MlflowClient().get_metric_history(tracker.run_id, "losses/actor")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    names = [item.path for item in mlflow.MlflowClient().list_artifacts(tracker.run_id)]
    assert "report.json" in names and "images" in names
    assert (root / "mlflow.db").exists() and (root / "mlartifacts").is_dir()


def test_git_commit_and_dirt_are_tags(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    seen = []
    for text in ("a", "b"):
        (tmp_path / "a.txt").write_text(text)
        with start_run("evaluate", tiny_params()) as tracker:
            tracker.log_metrics({"x": 1})
        seen.append(_run(tracker.run_id).data.tags)
    assert [tags["git.commit"] for tags in seen] == [head, head]
    assert [tags["git.dirty"] for tags in seen] == ["false", "true"]


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("bug"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (DataError("x"), "FAILED")]
)
def test_run_ends_as_its_stage_did(root: Path, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), start_run("prepare", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
        raise error
    assert _run(tracker.run_id).info.status == status
    assert _run(tracker.run_id).data.metrics["x"] == 1, "what was buffered is written"


def test_interrupted_training_goes_on_in_its_run(root: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), start_run("train_agent", tiny_params()) as first:
        first.resume_from(tmp_path)
        first.log_metrics({"x": 1}, 1)
        raise KeyboardInterrupt
    with start_run("train_agent", tiny_params()) as second:
        second.resume_from(tmp_path)
        second.log_metrics({"x": 2}, 2)
    assert second.run_id == first.run_id and _run(first.run_id).info.status == "FINISHED"
    assert len(mlflow.MlflowClient().get_metric_history(first.run_id, "x")) == 2


def test_forgotten_run_is_started_anew(root: Path, tmp_path: Path) -> None:
    (tmp_path / "run_id").write_text("0" * 32)
    with start_run("train_agent", tiny_params()) as tracker:
        tracker.resume_from(tmp_path)
    assert tracker.run_id != "0" * 32 and (tmp_path / "run_id").read_text() == tracker.run_id


def test_results_are_added_to_a_finished_run(root: Path) -> None:
    with start_run("train_agent", tiny_params()) as agent:
        agent.log_metrics({"losses/actor": 1})
    with start_run("evaluate", tiny_params()) as tracker:
        tracker.for_run(agent.run_id).log_metrics({"test/l2": 0.25}, 100)
        tracker.for_run(None).log_metrics({"test/l2": 0.5}, 100)
    run = _run(agent.run_id)
    assert run.data.metrics == {"losses/actor": 1, "test/l2": 0.25} and run.info.status == "FINISHED"


def test_runs_are_found_by_the_content_that_they_made(root: Path, tmp_path: Path) -> None:
    made, copy = tmp_path / "actor", tmp_path / "moved"
    made.write_bytes(b"weights")
    remember_output("abc", made)
    copy.write_bytes(b"weights")
    assert find_producer(made) == find_producer(copy) == "abc"
    copy.write_bytes(b"others")
    assert find_producer(copy) is None and find_producer(tmp_path / "nothing") is None


def test_broken_store_is_one_warning_and_no_failure(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    done = False
    with start_run("prepare", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
        tracker.set_tags({"a": "b"})
        done = True
    assert done and capsys.readouterr().err.count("warning: MLflow tracking stopped") == 1


def test_trackers_are_interchangeable() -> None:
    trackers: list[Tracker] = [NullTracker(), MlflowTracker("prepare", {}, {})]
    public = [{name for name in dir(tracker) if not name.startswith("_")} for tracker in trackers]
    assert public[0] <= public[1]


def _raise(error: BaseException) -> Callable[[Params, Tracker], None]:
    def run(params: Params, tracker: Tracker) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainingError("loss: is bad; stop"), 1),
        (ParamsError("params: are bad; mend"), 2),
        (ModelError("model: is bad; train"), 3),
        (DeviceError("device: is bad; buy"), 4),
        (DataError("data: is bad; look"), 5),
    ],
)
def test_stage_ends_with_the_errors_code_and_sentence(
    root: Path, capsys: pytest.CaptureFixture[str], error: LpaintError, code: int
) -> None:
    with pytest.raises(SystemExit) as exited:
        run_stage("prepare", _raise(error))
    assert exited.value.code == code and capsys.readouterr().err == f"error: {error}\n"


def test_interrupted_stage_ends_with_130(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        run_stage("train_agent", _raise(KeyboardInterrupt()))
    assert exited.value.code == 130 and "run the same command again to go on" in capsys.readouterr().err


def test_bug_keeps_its_traceback(root: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run_stage("prepare", _raise(ZeroDivisionError()))


def _start(root: Path, script: str, **environment: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


_STAGE = """
import time
from lpaint.stage import run_stage
def run(params, tracker):
    tracker.log_metrics({"x": 1})
    tracker.flush()
    print(tracker.run_id, flush=True)
    time.sleep(%s)
run_stage("train_agent", run)
"""


def test_terminated_stage_closes_its_run(root: Path) -> None:
    stage = _start(root, _STAGE % 60)
    assert stage.stdout is not None
    run_id = stage.stdout.readline().strip()
    stage.send_signal(signal.SIGTERM)
    assert stage.wait(60) == 130
    assert _run(run_id).info.status == "KILLED"


def test_two_stages_can_start_on_one_fresh_database(tmp_path: Path) -> None:
    write_params(tmp_path)
    stages = [_start(tmp_path, _STAGE % 0) for _ in range(2)]
    outputs: list[Any] = [stage.communicate(timeout=120) for stage in stages]
    assert [stage.returncode for stage in stages] == [0, 0]
    assert all(len(out.strip()) == 32 and "warning" not in err for out, err in outputs), outputs


def test_named_tracking_server_is_honoured(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time_ns()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with start_run("prepare", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
    assert (tmp_path / "other.db").stat().st_mtime_ns >= before and len(tracker.run_id) == 32
