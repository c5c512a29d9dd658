"""What lies on disk: whole files or none, resume state, weights, and where paths lead."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import nn

from lpaint.checkpoint import ResumeState, generator_state, restore_generator, resume_state
from lpaint.errors import ModelError, TrainingError
from lpaint.files import replacing, write_json, write_text
from lpaint.paths import repository_root, resolve_data_path, resume_directory
from lpaint.weights import load_weights, save_weights


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.json"
    write_text(path, "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), replacing(path) as temporary:
            temporary.write_text("half")
            raise error
    assert path.read_text() == "old" and [each.name for each in path.parent.iterdir()] == ["report.json"]
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"l2": float("nan")})
    assert path.read_text() == "old"


def test_paths_hang_on_the_root_that_dvc_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert repository_root() == elsewhere.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert resolve_data_path("../a.zip") == (tmp_path.parent / "a.zip").resolve()
    assert resolve_data_path("/data/a.zip") == Path("/data/a.zip")
    assert resume_directory("train_agent", "0f") == tmp_path.resolve() / ".lpaint/resume/train_agent-0f"


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    resume = ResumeState(tmp_path / "state")
    assert resume.load("cpu") is None
    resume.save({"step": 3, "tensor": torch.arange(4), "curve": [{"l2": 0.5}]})
    state = resume.load("cpu")
    assert state is not None and state["step"] == 3 and state["curve"] == [{"l2": 0.5}]
    assert torch.equal(state["tensor"], torch.arange(4))
    resume.clear()
    assert not resume.directory.exists()


def test_damaged_checkpoint_says_what_to_delete(tmp_path: Path) -> None:
    resume = ResumeState(tmp_path)
    resume.save({"tensor": torch.zeros(1000)})
    resume.path.write_bytes(resume.path.read_bytes()[:500])
    with pytest.raises(TrainingError, match=r"checkpoint is damaged .*; delete .* to start over"):
        resume.load("cpu")


def test_resume_folder_is_keyed_by_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folders = []
    for key in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3}):
        with resume_state("train_agent", key) as resume:
            folders.append(resume.directory)
    assert folders[0] == folders[1] != folders[2]


def _hold(root: str, ready: multiprocessing.Event, done: multiprocessing.Event) -> None:  # type: ignore[valid-type]
    import os

    os.environ["DVC_ROOT"] = root
    with resume_state("train_agent", {"seed": 0}):
        ready.set()
        done.wait(30)


def test_two_processes_cannot_run_one_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    other.start()
    try:
        assert ready.wait(60)
        refused = pytest.raises(TrainingError, match="another process is running this very training")
        with refused, resume_state("train_agent", {"seed": 0}):
            pass
        with resume_state("train_agent", {"seed": 1}):
            pass
    finally:
        done.set()
        other.join()
    with resume_state("train_agent", {"seed": 0}):
        pass


def test_generator_goes_on_where_it_was() -> None:
    generator = torch.Generator().manual_seed(5)
    torch.rand(3, generator=generator)
    state = generator_state(generator)
    expected = torch.rand(4, generator=generator)
    other = torch.Generator()
    restore_generator(other, state)
    assert torch.equal(torch.rand(4, generator=other), expected)


def test_weights_carry_their_settings(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    save_weights(tmp_path / "w.safetensors", network, {"width": 4, "zoom": [1, 2]})
    state, settings = load_weights(tmp_path / "w.safetensors", "train_agent")
    assert settings == {"width": 4, "zoom": [1, 2]}
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("kind", ["missing", "text", "truncated", "foreign"])
def test_bad_weights_name_the_stage_to_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.safetensors"
    if kind == "text":
        path.write_text("no weights")
    elif kind == "truncated":
        save_weights(path, nn.Linear(2, 2), {})
        path.write_bytes(path.read_bytes()[:-4])
    elif kind == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"run `dvc repro (-f )?train_agent`") as caught:
        load_weights(path, "train_agent")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
