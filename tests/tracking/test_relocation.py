"""A repository that is moved, renamed or copied: it keeps its registry, and nothing is written outside it."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from lpaint.doctor import examine
from lpaint.runtime.paths import mismatched_install
from lpaint.tracking import start_run
from lpaint.tracking.mlflow_store import EXPERIMENT
from lpaint.tracking.registry import promote, pull
from lpaint.tracking.relocation import former_root, relocate
from lpaint.tracking.run_store import RunStore
from stages import source
from stages.runner import run_stage
from tests.helpers.commands import Outcome, listing
from tests.helpers.tiny import ROOT, tiny_params, write_params

Enter = Callable[[Path], Path]


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Makes a folder the repository in use."""

    def call(root: Path) -> Path:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.chdir(root)
        return root

    return call


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a run, a registered model and a champion, under a name that a URI must quote."""
    root = tmp_path_factory.mktemp("origin") / "mål 1%"
    root.mkdir()
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "model", value[:1], value[1:])
    (root / "exports").mkdir()
    model = root / "exports/actor.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), model)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        with start_run("train_agent", tiny_params()) as tracker:
            tracker.log_metrics({"test/l2": 0.5, "validation_final/l2": 0.5}, 100)
            tracker.log_artifact(model, "models")
            tracker.log_onnx_model(model, "actor", register=True)
        promote(RunStore())
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy of the original that believes that it was made where it is."""
    root = tmp_path / "repo sitory"
    shutil.copytree(original, root)
    relocate(root, EXPERIMENT)
    return root


def _locations(root: Path) -> list[str]:
    with sqlite3.connect(root / "mlflow.db") as database:
        queries = ["SELECT artifact_uri FROM runs", "SELECT artifact_location FROM experiments"]
        queries += ["SELECT storage_location FROM model_versions", "SELECT artifact_location FROM logged_models"]
        return [row[0] for query in queries for row in database.execute(query)]


def _pulled(folder: Path) -> bytes:
    pull(RunStore(), "champion", folder / "exports/champion.onnx")
    return (folder / "exports/champion.onnx").read_bytes()


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_repository_keeps_its_registry_and_writes_into_itself(
    root: Path, enter: Enter, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    new, before = root.with_name("elsewhere"), listing(root)
    content = (root / "exports/actor.onnx").read_bytes()
    if how == "moved":
        root.rename(new)
    else:
        shutil.copytree(root, new)
    enter(new)
    assert _pulled(new) == content
    told = capsys.readouterr().err
    assert told.count("note: ") == 1 and f"now looks for its artifacts in {new}/mlartifacts (" in told
    assert (f"was in {root} before" if how == "moved" else f"is a copy of {root}") in told
    with start_run("prepare", tiny_params()) as tracker:
        tracker.log_artifact(new / "exports/actor.onnx")
    assert list((new / "mlartifacts").glob(f"{tracker.run_id}/artifacts/actor.onnx"))
    assert capsys.readouterr().err == "", "it is told once"
    assert (listing(root) == before) if how == "copied" else not root.exists()
    assert all(str(root) not in place and root.as_uri() not in place for place in _locations(new))
    if how == "copied":
        enter(root)
        assert _pulled(root) == content and capsys.readouterr().err == ""
        assert all(new.as_uri() not in place for place in _locations(root))


def test_a_queued_experiment_in_a_moved_repository_writes_into_it(
    root: Path, enter: Enter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, temporary = root.rename(root.with_name("elsewhere")), tmp_path / "temporary"
    temporary.mkdir()
    enter(temporary)
    monkeypatch.setenv("DVC_ROOT", str(new))
    with start_run("prepare", tiny_params()) as tracker:
        tracker.log_artifact(new / "exports/actor.onnx")
    assert list((new / "mlartifacts").glob(f"{tracker.run_id}/artifacts/actor.onnx"))
    assert not root.exists() and listing(temporary) == set()


def test_files_written_to_the_former_root_are_copied(
    root: Path, enter: Enter, capsys: pytest.CaptureFixture[str]
) -> None:
    new = root.rename(root.with_name("elsewhere"))
    # As a stage did that ran before locations followed the repository.
    (model,) = (new / "mlartifacts/models").iterdir()
    stray = root / "mlartifacts/models" / model.name
    stray.parent.mkdir(parents=True)
    model.rename(stray)
    enter(new)
    assert _pulled(new) == (new / "exports/actor.onnx").read_bytes()
    told = capsys.readouterr().err
    assert f"files copied from there: {len(listing(stray))})" in told and "not copied" not in told
    assert listing(stray) == listing(model), "nothing is taken from there"


def test_files_added_to_a_run_at_the_former_root_are_copied(
    root: Path, enter: Enter, capsys: pytest.CaptureFixture[str]
) -> None:
    new = root.rename(root.with_name("elsewhere"))
    (run,) = new.glob("mlartifacts/*/artifacts")
    former = root / run.relative_to(new)
    here = (run / "models/actor.onnx").read_bytes()
    for name, content in {"evaluation/paintings.npz": b"strokes", "empty.txt": b"", "models/actor.onnx": b"1"}.items():
        (former / name).parent.mkdir(parents=True, exist_ok=True)
        (former / name).write_bytes(content)
    (former / ".lpaint-1-0.partial.npz").write_bytes(b"half")
    (former / "lost.txt").symlink_to(root / "nowhere")
    (former / "linked").symlink_to(former / "models")
    before = listing(root)
    enter(new)
    assert len(RunStore().versions()) == 1
    assert (run / "evaluation/paintings.npz").read_bytes() == b"strokes" and (run / "empty.txt").read_bytes() == b""
    assert (run / "models/actor.onnx").read_bytes() == here, "nothing is overwritten"
    assert not list(run.rglob(".*")) and not os.path.lexists(run / "lost.txt")
    told, folder = capsys.readouterr().err, run.relative_to(new)
    assert told.count("note: ") == 1 and "files copied from there: 2); not copied from " in told
    assert f"not copied from {root}: {folder}/linked (cannot be copied: Is a directory), {folder}/lost.txt (" in told
    assert f"No such file or directory), {folder}/models/actor.onnx (differs here)\n" in told
    assert listing(root) == before and (former / "models/actor.onnx").read_bytes() == b"1"


def test_a_note_names_a_few_of_many_files(root: Path) -> None:
    new = root.with_name("elsewhere")
    shutil.copytree(root, new)
    (run,) = root.glob("mlartifacts/*/artifacts")
    for number in range(5):
        (run / f"{number}.txt").write_text("there")
        (new / run.relative_to(root) / f"{number}.txt").write_text("here")
    told = relocate(new, EXPERIMENT)
    assert told.count("differs here") == 3 and told.endswith("2.txt (differs here), and 2 more")


def test_a_full_disk_changes_no_location(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    new = root.with_name("elsewhere")
    shutil.copytree(root, new)
    (run,) = root.glob("mlartifacts/*/artifacts")
    (run / "added.txt").write_text("there")
    before = _locations(new)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(OSError, match="No space"):
            relocate(new, EXPERIMENT)
    assert _locations(new) == before
    assert "files copied from there: 1)" in relocate(new, EXPERIMENT)


def _link(new: Path, old: Path) -> None:
    new.symlink_to(old)


def _bind(new: Path, old: Path) -> None:
    new.hardlink_to(old)  # As with a bind mount, two paths are one file.


def _keep_elsewhere(new: Path, old: Path) -> None:
    far = old.with_name("far.db")
    old.rename(far)
    new.symlink_to(far)


@pytest.mark.parametrize("share", [_link, _bind, _keep_elsewhere])
def test_a_shared_database_is_not_taken_for_a_moved_one(
    root: Path, enter: Enter, capsys: pytest.CaptureFixture[str], share: Callable[[Path, Path], None]
) -> None:
    new, before = root.with_name("second"), _locations(root)
    (new / "mlartifacts").mkdir(parents=True)
    share(new / "mlflow.db", root / "mlflow.db")
    enter(new)
    assert former_root(new, EXPERIMENT) is None and relocate(new, EXPERIMENT) == ""
    assert len(RunStore().versions()) == 1
    assert capsys.readouterr().err == "" and _locations(new) == before


def test_moved_there_and_back_all_is_as_before(root: Path, enter: Enter) -> None:
    before, new = _locations(root), root.with_name("elsewhere")
    root.rename(new)
    enter(new)
    _pulled(new)
    new.rename(root)
    enter(root)
    _pulled(root)
    assert _locations(root) == before


def test_artifacts_that_the_user_keeps_elsewhere_stay_there(root: Path, tmp_path: Path) -> None:
    far = tmp_path / "disk" / "mlartifacts"
    far.parent.mkdir()
    (root / "mlartifacts").rename(far)
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", (far.as_uri(), EXPERIMENT))
    assert former_root(root, EXPERIMENT) is None and relocate(root, EXPERIMENT) == ""
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("UPDATE experiments SET artifact_location = 's3://bucket/mlartifacts'")
    assert former_root(root, EXPERIMENT) is None


def test_a_second_name_of_the_same_folder_is_no_move(root: Path) -> None:
    new = root.rename(root.with_name("elsewhere"))
    root.symlink_to(new)
    assert former_root(new, EXPERIMENT) is None


def test_a_store_that_the_user_names_is_left_alone(
    root: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, new = _locations(root), root.rename(root.with_name("elsewhere"))
    enter(new)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{new}/mlflow.db")
    assert len(RunStore().versions()) == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert len(RunStore(f"sqlite:///{new}/mlflow.db").versions()) == 1
    assert _locations(new) == before and "note:" not in capsys.readouterr().err


def test_processes_that_start_together_relocate_it_once(root: Path) -> None:
    new = root.rename(root.with_name("elsewhere"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    script = "from lpaint.tracking.run_store import RunStore; print(len(RunStore().versions()))"
    command = [sys.executable, "-c", script]
    processes = [
        subprocess.Popen(
            command, cwd=new, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        for _ in range(3)
    ]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [out for out, _ in ends] == ["1\n"] * 3
    assert sorted(err.count("note: this repository was in") for _, err in ends) == [0, 0, 1]


def test_doctor_finds_and_repairs_it(root: Path, enter: Enter, lpaint: Callable[..., Outcome]) -> None:
    new = enter(root.rename(root.with_name("elsewhere")))
    (new / "data/watch").mkdir(parents=True)
    (new / "data/watch/faces.zip").symlink_to(root / "faces.zip")
    outcome = lpaint("doctor")
    assert outcome.code == 1
    assert f"PROBLEM  MLflow: mlflow.db looks for artifacts in {root}, where this repository was; lpaint" in outcome.out
    assert "PROBLEM  data: data/watch/faces.zip is a broken link" in outcome.out
    outcome = lpaint("doctor", "--fix")
    assert outcome.code == 0 and "ok       MLflow: this repository was in" in outcome.out
    assert not list((new / "data/watch").iterdir())
    outcome = lpaint("doctor")
    assert outcome.code == 0 and "its store looks for artifacts where they are" in outcome.out
    (new / "mlflow.db").write_bytes(b"no database" * 100)
    assert "PROBLEM  MLflow: mlflow.db cannot be used (file is not a database)" in lpaint("doctor").out


def test_a_read_only_database_can_be_read(
    root: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> str:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr("lpaint.tracking.mlflow_store.relocate", refuse)
    enter(root)
    assert len(RunStore().versions()) == 1
    assert "mlflow.db cannot be changed (attempt to write a readonly database)" in capsys.readouterr().err


def test_links_to_data_in_the_repository_move_along(tmp_path: Path, enter: Enter) -> None:
    root = tmp_path / "repo"
    (root / "data/watch").mkdir(parents=True)
    far = tmp_path / "far.zip"
    for archive in (root / "data/faces.zip", far):
        archive.write_bytes(b"")
    enter(root)
    for path, link in (("data/faces.zip", "../faces.zip"), (str(far), str(far))):
        source.link_files(tiny_params(data={"source": "celeba", "path": path}), Path("data/watch"))
        (found,) = Path("data/watch").iterdir()
        assert str(found.readlink()) == link
    source.link_files(tiny_params(data={"source": "celeba", "path": "data/faces.zip"}), Path("data/watch"))
    new = enter(root.rename(tmp_path / "elsewhere"))
    assert (new / "data/watch/faces.zip").is_file()


def test_code_of_another_repository_is_told(
    tmp_path: Path, enter: Enter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path)
    assert mismatched_install() is None, "a folder without code is no other repository"
    write_params(tmp_path)
    (tmp_path / "pipeline/lpaint").mkdir(parents=True)
    run_stage("prepare", lambda params, tracker: None)
    assert "warning: prepare: runs the code in " in capsys.readouterr().err
    findings = [finding for finding in examine(None) if finding.subject == "code"]
    assert not findings[0].ok and "remove .venv here and run make setup" in findings[0].text
    monkeypatch.setenv("DVC_ROOT", str(Path(sys.modules["lpaint"].__file__ or "").parents[2]))
    assert mismatched_install() is None, "a queued experiment runs the repository's own"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_an_environment_of_another_folder_is_made_anew(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    # What stands for Python notes its calls and does nothing.
    python.write_text('#!/bin/sh\necho "$@" >> calls\n')
    python.chmod(0o755)
    command = ["make", f"PYTHON={python.with_name('python')}", "setup"]
    settings = tmp_path / ".venv/pyvenv.cfg"
    settings.write_text(f"command = /usr/bin/python3 -m venv {tmp_path}/.venv\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "made anew" not in done.stdout and "pip install" in (tmp_path / "calls").read_text()
    settings.write_text("command = /usr/bin/python3 -m venv /elsewhere/.venv\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "made anew" not in done.stdout, "nothing has changed"
    new = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(new)
    done = subprocess.run([*command[:1], "PYTHON=true", "setup"], cwd=new, capture_output=True, text=True, check=False)
    assert "note: .venv was made in another folder; it is made anew" in done.stdout and not (new / ".venv").exists()
