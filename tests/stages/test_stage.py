"""How stages run: exit codes, one sentence for the user, and runs that end as their stage did."""

import ast
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lpaint.errors import (
    DataError,
    DeviceError,
    ImageError,
    LpaintError,
    ModelError,
    ParamsError,
    StreamError,
    TrainingError,
)
from lpaint.runtime import artifacts
from lpaint.runtime.params import Params
from lpaint.runtime.provenance import find_producing_run
from lpaint.tracking import Tracker
from stages.runner import run_stage, run_tracked
from tests.helpers.commands import DeadTerminal, heed_interrupts
from tests.helpers.tiny import ROOT, write_params

ERRORS = [
    (TrainingError("loss: is bad; stop"), 1),
    (ImageError("picture: is bad; take another"), 1),
    (StreamError("output: is bad; make room"), 1),
    (ParamsError("params: are bad; mend"), 2),
    (ModelError("model: is bad; train"), 3),
    (DeviceError("device: is bad; buy"), 4),
    (DataError("data: is bad; look"), 5),
]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def _raise(error: BaseException) -> Callable[[Params, Tracker], None]:
    def run(params: Params, tracker: Tracker) -> None:
        raise error

    return run


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_stage_ends_with_the_errors_code_and_sentence(
    root: Path, capsys: pytest.CaptureFixture[str], error: LpaintError, code: int
) -> None:
    with pytest.raises(SystemExit) as exited:
        run_stage("prepare", _raise(error))
    assert exited.value.code == code and capsys.readouterr().err == f"error: {error}\n"
    with pytest.raises(type(error)):
        run_tracked("prepare", _raise(error))


@pytest.mark.parametrize(
    ("error", "code"), [*ERRORS, (KeyboardInterrupt(), 130), (OSError(28, "No space left"), 1), (ValueError("no"), 70)]
)
def test_a_stage_keeps_its_code_where_nobody_can_be_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    monkeypatch.setattr(sys, "stderr", DeadTerminal())
    with pytest.raises(SystemExit) as exited:
        run_stage("prepare", _raise(error))
    assert exited.value.code == code


def test_what_python_cannot_flush_at_its_end_does_not_change_the_code(root: Path) -> None:
    script = (
        "from lpaint.errors import DataError\n"
        "from stages.runner import report_errors\n"
        "with report_errors('prepare'):\n"
        "    print('something')\n"
        "    raise DataError('data: is bad; look')"
    )
    # Buffered as users have it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=full, check=False, env=environment)
    assert done.returncode == 5


def test_an_interruption_that_fails_while_it_unwinds_is_one_still(root: Path) -> None:
    def run(params: Params, tracker: Tracker) -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            raise OSError(5, "Input/output error")

    with pytest.raises(SystemExit) as exited:
        run_stage("prepare", run)
    assert exited.value.code == 130


def test_every_kind_of_error_is_tried() -> None:
    assert {type(error) for error, _ in ERRORS} == set(LpaintError.__subclasses__())


def test_artifacts_are_the_outputs_of_dvc_yaml() -> None:
    outputs = set()
    for stage in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for out in [*stage["outs"], *stage.get("metrics", [])]:
            outputs |= {out} if isinstance(out, str) else set(out)
    named = {path.as_posix() for path in vars(artifacts).values() if isinstance(path, Path)}
    named |= {artifacts.rasteriser_record(kind).as_posix() for kind in ("exact", "neural")}
    assert outputs <= named and named - outputs == {"data/watch", "data/prepared/summary.json", "models", "exports"}


def test_stage_that_ends_well_returns_and_sees_its_params(root: Path) -> None:
    write_params(root, base={"seed": 11})
    seen = []
    run_stage("prepare", lambda params, tracker: seen.append(params.base.seed))
    assert seen == [11]


@pytest.mark.parametrize("content", [None, "base: [", "base: {sed: 1}\n"])
def test_bad_params_end_the_stage_before_it_begins(
    root: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    (root / "params.yaml").unlink()
    if content is not None:
        (root / "params.yaml").write_text(content)
    began: list[Params] = []
    with pytest.raises(SystemExit) as exited:
        run_stage("prepare", lambda params, tracker: began.append(params))
    err = capsys.readouterr().err
    assert exited.value.code == 2 and err.startswith("error: params.yaml: ") and err.count("\n") == 1 and not began


def test_interrupted_stage_ends_with_130(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        run_stage("train_agent", _raise(KeyboardInterrupt()))
    err = capsys.readouterr().err
    assert exited.value.code == 130 and err == "train_agent: interrupted; run the same command again to go on\n"
    with pytest.raises(KeyboardInterrupt):
        run_tracked("train_agent", _raise(KeyboardInterrupt()))


def test_a_stage_of_one_process_is_not_run_by_several(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as exited:
        run_stage("prepare", _raise(AssertionError()))
    assert exited.value.code == 2
    assert capsys.readouterr().err.startswith("error: prepare: is the work of one process; start it by python -m")


def test_a_bug_keeps_its_traceback_and_has_a_code_of_its_own(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        run_stage("prepare", _raise(ZeroDivisionError("no")))
    err = capsys.readouterr().err
    assert exited.value.code == 70 and "Traceback" in err and "ZeroDivisionError: no" in err
    assert err.endswith("error: prepare: this is a bug in lpaint; please report the above\n")
    with pytest.raises(ZeroDivisionError):
        run_tracked("prepare", _raise(ZeroDivisionError("no")))


def test_outputs_are_remembered_only_if_the_stage_ends_well(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://")
    outs = [root / "a.bin", root / "never-written"]

    def run(params: Params, tracker: Tracker) -> None:
        outs[0].write_bytes(b"made here")
        tracker.run_id = "c" * 32

    def fail(params: Params, tracker: Tracker) -> None:
        run(params, tracker)
        raise DataError("data: is bad; look")

    with pytest.raises(DataError):
        run_tracked("prepare", fail, outs)
    assert find_producing_run(outs[0]) is None
    run_tracked("prepare", run, outs)
    assert find_producing_run(outs[0]) == "c" * 32 and find_producing_run(outs[1]) is None


def test_what_earlier_versions_left_in_a_stages_folders_is_swept(root: Path) -> None:
    left = root / "models/.actor.7.partial.safetensors"
    left.parent.mkdir()
    left.touch()
    os.utime(left, (0, 0))
    run_stage("prepare", lambda params, tracker: None)
    assert not left.exists()


def _start(root: Path, script: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT / "pipeline"), str(ROOT)])
    # Other tests' stores, which MLflow notes in the environment, are not for this process.
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=root,
        env=inherited | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


_STAGE = """
import time
from stages.runner import run_stage
def run(params, tracker):
    tracker.log_metrics({"x": 1})
    tracker.flush()
    print(tracker.run_id, flush=True)
    time.sleep(%s)
run_stage("train_agent", run)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_terminated_stage_closes_its_run(store: Path, signum: signal.Signals) -> None:
    stage = _start(store, _STAGE % 60)
    assert stage.stdout is not None
    run_id = stage.stdout.readline().strip()
    stage.send_signal(signum)
    _, err = stage.communicate(timeout=60)
    assert (stage.returncode, err) == (130, "train_agent: interrupted; run the same command again to go on\n")
    assert _status(store, run_id) == "KILLED"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which two stages started at once on a fresh database."""
    root = tmp_path_factory.mktemp("store")
    write_params(root)
    stages = [_start(root, _STAGE % 0) for _ in range(2)]
    outputs: list[Any] = [stage.communicate(timeout=120) for stage in stages]
    (root / "outputs").write_text(repr([(stage.returncode, *out) for stage, out in zip(stages, outputs, strict=True)]))
    return root


def test_two_stages_can_start_on_one_fresh_database(store: Path) -> None:
    outputs = ast.literal_eval((store / "outputs").read_text())
    assert [(code, err) for code, _, err in outputs] == [(0, "")] * 2
    ids = {out.strip() for _, out, _ in outputs}
    assert len(ids) == 2 and {_status(store, run_id) for run_id in ids} == {"FINISHED"}
    with sqlite3.connect(store / "mlflow.db") as database:
        names = database.execute("SELECT name FROM experiments WHERE name = 'lpaint'").fetchall()
    assert len(names) == 1


def _status(root: Path, run_id: str) -> str:
    with sqlite3.connect(root / "mlflow.db") as database:
        return database.execute("SELECT status FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()[0]
