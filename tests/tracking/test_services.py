"""Four stages at once against an MLflow server on PostgreSQL that goes away in the middle: nothing is lost."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.helpers.commands import Outcome
from tests.helpers.services import Services, reason_to_skip
from tests.helpers.tiny import ROOT, write_params

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip()),
]
STAGES = 4
# Before the server goes, while it is away, and after it is back.
PARTS, STEPS = 3, 100
_STAGE = """
import sys
from pathlib import Path
import numpy as np
from stages.runner import run_stage
parts, steps = int(sys.argv[2]), int(sys.argv[3])
def run(params, tracker):
    tracker.resume_from(Path())
    for part in range(parts):
        for step in range(steps * part, steps * (part + 1)):
            l2 = 1 / (step + 1) + 0.001 * params.base.seed
            tracker.log_metrics({"validation/l2": l2, "validation/reward": 1 - l2, "charts/seconds": step}, step)
        tracker.flush()
        tracker.log_image("sheet", np.full((8, 8, 3), 60 * part, np.uint8), step)
        Path(f"part-{part}.json").write_text("{}")
        tracker.log_artifact(Path(f"part-{part}.json"), "parts")
        tracker.set_tags({f"part.{part}": "done", "data.digest": "abc"})
        if part == 1:
            tracker.log_params({"made_while_away": "yes"})
            tracker.log_onnx_model(Path(sys.argv[1]), "actor", register=True)
        print(part, flush=True)
        sys.stdin.readline()
    l2 = 0.01 * params.base.seed
    tracker.log_metrics({"test/l2": l2, "validation_final/l2": l2}, 100)
run_stage("train_agent", run)
"""


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    # Not among pytest's folders, which other users cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="lpaint-services-"))
    folder.chmod(0o755)
    made = Services(folder)
    try:
        made.postgres.start()
        made.mlflow.start()
        yield made
    finally:
        made.mlflow.stop()
        made.postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def adder(tmp_path: Path) -> Path:
    """An ONNX model that adds two inputs [n, 2]."""
    names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("a", "b", "sum")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "adder", names[:2], names[2:])
    path = tmp_path / "adder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def _start(root: Path, seed: int, model: Path, uri: str) -> subprocess.Popen[str]:
    root.mkdir()
    write_params(root, base={"seed": seed})
    paths = os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-c", _STAGE, str(model), str(PARTS), str(STEPS)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths, "MLFLOW_TRACKING_URI": uri},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _all_reach(stages: list[subprocess.Popen[str]], part: int) -> None:
    for stage in stages:
        assert stage.stdout is not None
        line = stage.stdout.readline()
        assert line == f"{part}\n", stage.communicate()


def _go_on(stages: list[subprocess.Popen[str]]) -> None:
    for stage in stages:
        assert stage.stdin is not None
        stage.stdin.write("\n")
        stage.stdin.flush()


def test_four_stages_lose_nothing_when_the_server_is_stopped_and_started_again(
    services: Services,
    tmp_path: Path,
    adder: Path,
    monkeypatch: pytest.MonkeyPatch,
    lpaint: Callable[..., Outcome],
) -> None:
    stages = [_start(tmp_path / str(seed), seed, adder, services.uri) for seed in range(STAGES)]
    _all_reach(stages, 0)
    services.mlflow.stop()
    _go_on(stages)
    _all_reach(stages, 1)
    assert len(list(tmp_path.glob("*/.lpaint/tracking/*.jsonl"))) == STAGES
    services.mlflow.start()
    _go_on(stages)
    _all_reach(stages, 2)
    for stage in stages:
        _, err = stage.communicate("\n", timeout=300)
        assert stage.returncode == 0
        # MLflow itself tells of registered models.
        told = [line for line in err.splitlines() if "odel 'lpaint-actor'" not in line]
        assert len(told) == 2 and "does not answer" in told[0] and told[1].startswith("MLflow answers again"), err
    assert not list(tmp_path.glob("*/.lpaint/tracking/*"))

    monkeypatch.setenv("MLFLOW_TRACKING_URI", services.uri)
    # Where an earlier test of this process pointed MLflow at counts for more than the variable.
    mlflow.set_tracking_uri(services.uri)
    client = mlflow.MlflowClient(services.uri)
    experiment = client.get_experiment_by_name("lpaint")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * STAGES
    assert services.count("metrics") == STAGES * (3 * PARTS * STEPS + 2)
    for run in runs:
        history = client.get_metric_history(run.info.run_id, "charts/seconds")
        assert sorted((point.step, point.value) for point in history) == [(i, i) for i in range(PARTS * STEPS)]
        assert run.data.params["made_while_away"] == "yes" and len(run.data.params) > 100
        assert {f"part.{part}" for part in range(PARTS)} <= run.data.tags.keys()
        files = {item.path for item in client.list_artifacts(run.info.run_id, "parts")}
        assert files == {f"parts/part-{part}.json" for part in range(PARTS)}
        pictures = [item.path for item in client.list_artifacts(run.info.run_id, "images") if ".png" in item.path]
        assert len(pictures) == PARTS
    versions = client.search_model_versions("name='lpaint-actor'")
    assert {version.run_id for version in versions} == {run.info.run_id for run in runs} and len(versions) == STAGES
    model = mlflow.pyfunc.load_model("models:/lpaint-actor/1")
    one = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(model.predict({"a": one, "b": 2 * one})["sum"], 3 * one)

    outcome = lpaint("compare", "--tracking-uri", services.uri, "--format", "json")
    assert outcome.code == 0 and f"{STAGES} trainings in 1 group" in outcome.out, outcome.err
    assert lpaint("promote", "--tracking-uri", services.uri).out.startswith("version ")
    assert lpaint("pull", "champion", "-o", tmp_path / "champion.onnx").code == 0
    assert (tmp_path / "champion.onnx").read_bytes()
