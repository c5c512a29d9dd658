"""Tracked runs: what MLflow is told, how runs end, and that a broken store stops nothing."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest
from mlflow.entities import Run
from onnx import TensorProto, helper

from lpaint.errors import DataError
from lpaint.runtime.provenance import find_producing_run, record_output
from lpaint.tracking import MlflowTracker, NullTracker, Tracker, start_run
from lpaint.tracking.import_runs import import_runs
from tests.helpers.tiny import tiny_params


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose fresh database is made once: that takes seconds."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def root(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(store)
    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    # MLflow notes the store that it uses in the environment, where it would count as the user's choice. Not through
    # monkeypatch, which would put it back.
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    shutil.rmtree(store / ".lpaint" / "runs", ignore_errors=True)
    return store


def _run(run_id: str) -> Run:
    return mlflow.MlflowClient().get_run(run_id)


def test_run_holds_params_curves_images_and_origin(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "train_agent")
    monkeypatch.setenv("DVC_EXP_NAME", "hazel-dune")
    report = root / "report.json"
    report.write_text("{}")
    params = tiny_params(base={"seed": 7}, agent={"gan": "none", "replay": "uniform"})
    with start_run("train_agent", params) as tracker:
        for step in range(3):
            tracker.log_metrics({"losses/actor": 1.0 / (step + 1)}, step)
        tracker.log_image("sheet", np.zeros((4, 4, 3), np.uint8), 2)
        tracker.log_artifact(report)
        tracker.log_params({"long": "x" * 9000, "seed": 8})
        tracker.set_tags({"note": "by hand", "long": "x" * 20000})
    run = _run(tracker.run_id)
    assert run.info.status == "FINISHED"
    variant = {"gan": "none", "replay": "uniform", "algorithm": "ddpg", "seed": "7"}
    assert variant.items() <= run.data.params.items()
    agent = tiny_params().agent
    assert run.data.params["agent.per.alpha"] == str(agent.per.alpha) and len(run.data.params["long"]) == 500
    assert run.data.params["agent.zoom"] == str(agent.zoom) and "export.register" in run.data.params
    expected = {"stage": "train_agent", "dvc.stage": "train_agent", "dvc.experiment": "hazel-dune", "note": "by hand"}
    assert expected.items() <= run.data.tags.items() and set(run.data.tags["long"]) == {"x"}
    history = mlflow.MlflowClient().get_metric_history(tracker.run_id, "losses/actor")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    names = [item.path for item in mlflow.MlflowClient().list_artifacts(tracker.run_id)]
    assert "report.json" in names and "images" in names
    assert (root / "mlflow.db").exists() and (root / "mlartifacts").is_dir()


def test_tags_name_the_data_and_the_runs_built_on(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.chdir(tmp_path)
    summary, renderer = Path("data/prepared/summary.json"), Path("models/renderer.safetensors")
    own = Path("models/actor.safetensors")
    for path, text in ((summary, json.dumps({"digest": "d1"})), (renderer, "weights"), (own, "of an earlier run")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    record_output("a" * 32, summary)
    record_output("b" * 32, renderer)
    record_output("c" * 32, own)
    with start_run("train_agent", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
    tags = _run(tracker.run_id).data.tags
    assert (tags["data.digest"], tags["upstream.prepare"]) == ("d1", "a" * 32)
    assert tags["upstream.pretrain_renderer"] == "b" * 32
    assert not {"upstream.train_agent", "upstream.evaluate"} & set(tags)


@pytest.mark.parametrize("text", ["{", "{}", "[]", "\xff"])
def test_damaged_summary_of_the_data_stops_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    summary = Path("data/prepared/summary.json")
    summary.parent.mkdir(parents=True)
    summary.write_bytes(text.encode("latin-1"))
    done = False
    with start_run("prepare", tiny_params()):
        done = True
    assert done and not (tmp_path / "mlflow.db").exists(), "a run starts with the first thing logged"


def test_metrics_are_written_in_batches_and_none_is_lost(root: Path) -> None:
    with start_run("train_agent", tiny_params()) as tracker:
        for step in range(1101):
            tracker.log_metrics({"x": step, "y": -step}, step)
        seen = len(mlflow.MlflowClient().get_metric_history(tracker.run_id, "x"))
        assert 1000 <= seen < 1101, "written while running, though not one by one"
    history = mlflow.MlflowClient().get_metric_history(tracker.run_id, "x")
    assert sorted((point.step, point.value) for point in history) == [(step, step) for step in range(1101)]


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


def test_run_deleted_in_the_browser_is_started_anew(root: Path, tmp_path: Path) -> None:
    with start_run("train_agent", tiny_params()) as first:
        first.resume_from(tmp_path)
    mlflow.MlflowClient().delete_run(first.run_id)
    with start_run("train_agent", tiny_params()) as second:
        second.resume_from(tmp_path)
        second.log_metrics({"x": 2}, 2)
    assert second.run_id != first.run_id and _run(second.run_id).data.metrics == {"x": 2}
    assert (tmp_path / "run_id").read_text() == second.run_id


@pytest.mark.parametrize("status", ["FINISHED", "KILLED", "RUNNING"])
def test_added_results_leave_the_other_runs_status(root: Path, tmp_path: Path, status: str) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    with start_run("train_agent", tiny_params()) as agent:
        agent.log_metrics({"x": 1})
    if status == "RUNNING":
        mlflow.MlflowClient().update_run(agent.run_id, status)
    else:
        mlflow.MlflowClient().set_terminated(agent.run_id, status)
    ended = _run(agent.run_id).info.end_time
    with start_run("evaluate", tiny_params()) as tracker:
        other = tracker.for_run(agent.run_id)
        other.log_metrics({"y": 2})
        other.log_artifact(report)
        other.log_image("sheet", np.zeros((4, 4, 3), np.uint8))
        other.set_tags({"judged": "yes"})
        other.log_params({"judge": "l2"})
    run = _run(agent.run_id)
    assert (run.info.status, run.info.end_time) == (status, ended)
    assert (
        run.data.metrics == {"x": 1, "y": 2} and run.data.tags["judged"] == "yes" and run.data.params["judge"] == "l2"
    )
    names = [item.path for item in mlflow.MlflowClient().list_artifacts(agent.run_id)]
    assert sorted(names) == ["images", "report.json"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX model that adds two inputs [n, 2]."""
    names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("a", "b", "sum")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "adder", names[:2], names[2:])
    path = tmp_path_factory.mktemp("model") / "adder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_model_is_registered_and_predicts(root: Path, model_file: Path) -> None:
    with start_run("train_agent", tiny_params()) as agent:
        agent.log_metrics({"x": 1})
    ended = _run(agent.run_id).info.end_time
    with start_run("export_onnx", tiny_params()) as tracker:
        tracker.for_run(agent.run_id).log_onnx_model(model_file, "actor", register=True)
    info = _run(agent.run_id).info
    assert (info.status, info.end_time) == ("FINISHED", ended)
    (version,) = mlflow.MlflowClient().search_model_versions("name='lpaint-actor'")
    assert version.run_id == agent.run_id
    model = mlflow.pyfunc.load_model(f"models:/lpaint-actor/{version.version}")
    one = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(model.predict({"a": one, "b": 2 * one})["sum"], 3 * one)
    requirements = Path(mlflow.pyfunc.get_model_dependencies(f"models:/lpaint-actor/{version.version}"))
    packages = {line.split("==")[0] for line in requirements.read_text().split()}
    # Not onnxruntime beside it: the later of the two overwrites the other.
    assert packages == {"mlflow", "onnxruntime-gpu", "numpy"}


def test_model_may_stay_unregistered(root: Path, model_file: Path) -> None:
    before = len(mlflow.MlflowClient().search_model_versions("name='lpaint-actor'"))
    with start_run("export_onnx", tiny_params()) as tracker:
        tracker.log_onnx_model(model_file, "plain", register=False)
    assert len(mlflow.MlflowClient().search_model_versions("name='lpaint-actor'")) == before
    (logged,) = mlflow.search_logged_models(filter_string="name='plain'", output_format="list")
    assert logged.source_run_id == tracker.run_id


def test_model_that_cannot_be_logged_fails_no_run(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_run("train_agent", tiny_params()) as agent:
        agent.log_metrics({"x": 1})
    with start_run("export_onnx", tiny_params()) as tracker:
        tracker.log_metrics({"y": 1})
        tracker.for_run(agent.run_id).log_onnx_model(tmp_path / "missing.onnx", "actor", register=True)
    assert [_run(each.run_id).info.status for each in (agent, tracker)] == ["FINISHED", "FINISHED"]
    err = capsys.readouterr().err
    assert err == f"warning: {tmp_path}/missing.onnx was not logged: it is missing\n"


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
    record_output("abc", made)
    copy.write_bytes(b"weights")
    assert find_producing_run(made) == find_producing_run(copy) == "abc"
    copy.write_bytes(b"others")
    assert find_producing_run(copy) is None and find_producing_run(tmp_path / "nothing") is None


def test_trackers_are_interchangeable() -> None:
    trackers: list[Tracker] = [NullTracker(), MlflowTracker("prepare", {}, {})]
    public = [{name for name in dir(tracker) if not name.startswith("_")} for tracker in trackers]
    assert public[0] <= public[1]


def test_named_tracking_server_is_honoured(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with start_run("prepare", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
    named = mlflow.MlflowClient(f"sqlite:///{tmp_path}/other.db")
    assert named.get_run(tracker.run_id).data.metrics == {"x": 1}
    with pytest.raises(mlflow.MlflowException, match="not found"):
        mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db").get_run(tracker.run_id)


def test_own_store_is_not_taken_for_the_users_choice(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with start_run("prepare", tiny_params()) as tracker:
        tracker.log_metrics({"x": 1})
    assert "MLFLOW_TRACKING_URI" not in os.environ and _run(tracker.run_id).info.status == "FINISHED"


# Files of JSON lines


def _in_file(root: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DVC_ROOT", str(root))
    return start_run(stage, tiny_params(base={"tracking": "jsonl", "seed": 5}))


def test_a_run_in_a_file_becomes_the_run_that_mlflow_would_have_had(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, report = tmp_path / "away", tmp_path / "report.json"
    report.write_text("{}")
    with _in_file(away, "train_agent", monkeypatch) as agent:
        for step in range(3):
            agent.log_metrics({"losses/actor": 1.0 / (step + 1)}, step)
        agent.log_image("sheet", np.full((4, 4, 3), 200, np.uint8), 2)
        agent.log_image("last", np.zeros((4, 4, 3), np.uint8))
        agent.log_artifact(report, "reports")
        agent.set_tags({"note": "by hand"})
        agent.log_params({"compute.device": "cuda"})
    with _in_file(away, "evaluate", monkeypatch) as evaluation:
        evaluation.set_tags({"upstream.train_agent": agent.run_id})
        evaluation.for_run(agent.run_id).log_metrics({"test/l2_200": 0.004})
        evaluation.for_run(None).log_metrics({"lost": 1.0})
    files = sorted((away / ".lpaint/tracking").glob("*.jsonl"))
    assert [file.name.split("-")[0] for file in files] == ["evaluate", "train_agent"]

    monkeypatch.setenv("DVC_ROOT", str(root))
    made = {path.name.split("-")[0]: run_id for path, run_id, fresh in import_runs(files) if fresh}
    run = _run(made["train_agent"])
    assert run.info.status == "FINISHED" and run.info.run_name == "train_agent"
    assert {"seed": "5", "gan": "wgan_gp", "compute.device": "cuda"}.items() <= run.data.params.items()
    assert run.data.tags["note"] == "by hand" and run.data.metrics["test/l2_200"] == 0.004
    assert "lost" not in run.data.metrics
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "losses/actor")
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    events = [event for event in lines if event["event"] != "delivered"]
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert [point.timestamp for point in history] == [e["time"] for e in events if e["event"] == "metrics"]
    assert (run.info.start_time, run.info.end_time) == (events[0]["time"], events[-1]["time"])
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"images", "reports"} <= names
    # Links between the runs are kept, and a second import makes nothing twice.
    evaluated = _run(made["evaluate"]).data.tags
    assert evaluated["lpaint.imported_from"] == evaluation.run_id
    again = import_runs(files)
    assert [fresh for _, _, fresh in again] == [False, False]
    assert {run_id for _, run_id, _ in again} == set(made.values())


def test_links_to_imported_runs_are_translated(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = tmp_path / "away"
    folder = tmp_path / "work"
    (folder / "models").mkdir(parents=True)
    monkeypatch.chdir(folder)
    with _in_file(away, "train_agent", monkeypatch) as agent:
        agent.log_metrics({"a": 1.0})
    Path("models/actor.safetensors").write_text("weights of this test")
    record_output(agent.run_id, Path("models/actor.safetensors"))
    with _in_file(away, "evaluate", monkeypatch) as evaluation:
        evaluation.log_metrics({"b": 1.0})
    monkeypatch.setenv("DVC_ROOT", str(root))
    made = {
        path.name.split("-")[0]: run_id for path, run_id, _ in import_runs((away / ".lpaint/tracking").glob("*.jsonl"))
    }
    assert _run(made["evaluate"]).data.tags["upstream.train_agent"] == made["train_agent"]


def test_a_run_in_a_file_is_resumed_and_survives_a_kill(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, checkpoint = tmp_path / "away", tmp_path / "checkpoint"
    checkpoint.mkdir()
    with pytest.raises(KeyboardInterrupt), _in_file(away, "train_agent", monkeypatch) as first:
        first.resume_from(checkpoint)
        first.log_metrics({"a": 1.0}, 1)
        raise KeyboardInterrupt
    with _in_file(away, "train_agent", monkeypatch) as second:
        second.resume_from(checkpoint)
        second.log_metrics({"a": 2.0}, 2)
    assert second.run_id == first.run_id
    (file,) = (away / ".lpaint/tracking").glob("*.jsonl")
    whole = file.read_text()
    file.write_text(whole[: whole.rindex('"end"')])
    monkeypatch.setenv("DVC_ROOT", str(root))
    ((_, run_id, _),) = import_runs([file])
    history = mlflow.MlflowClient().get_metric_history(run_id, "a")
    assert [point.value for point in history] == [1.0, 2.0]
    assert _run(run_id).info.status == "KILLED", "its end was never written; the one before was of the first part"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read (it is not text)"),
        (b"", "does not begin like a tracked run"),
        (b'{"event": "end", "time": 1, "status": "FINISHED"}\n', "does not begin like a tracked run"),
        (b"nonsense\nnonsense\n", "line 1 is no event"),
    ],
)
def test_what_is_no_run_is_not_imported(root: Path, tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "run.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        import_runs([path])
    assert words in str(caught.value)


def test_a_stage_needs_no_mlflow_where_it_tracks_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from tests.helpers.tiny import tiny_params\nfrom lpaint.tracking import start_run\n"
        "params = tiny_params(base={'tracking': 'jsonl'})\n"
        "with start_run('prepare', params) as tracker: tracker.log_metrics({'a': 1.0})\n"
    )
    places = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"DVC_ROOT": str(tmp_path), "PYTHONPATH": places}
    done = subprocess.run(["python", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert not done.stderr and len(list((tmp_path / ".lpaint/tracking").glob("prepare-*.jsonl"))) == 1
