"""Checkpoints: whole or not at all, told from others, and two of them; what is left of them is listed and cleaned."""

import errno
import json
import os
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lpaint.cli import main
from lpaint.errors import TrainingError
from lpaint.runtime.resume import list_resume_folders
from lpaint.training.checkpoint import CheckpointManager, open_checkpoints
from lpaint.training.restore import load_part
from tests.helpers.checkpoints import last_state


@pytest.fixture
def resume(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "train_agent-0f", "train_agent", {"agent": {"gan": "none"}, "seed": 0})


def test_checkpoint_comes_back_as_it_was(resume: CheckpointManager) -> None:
    assert last_state(resume) is None
    resume.save({"step": 3, "tensor": torch.arange(4), "curve": [{"l2": 0.5}]})
    state = last_state(resume)
    assert state is not None and state["step"] == 3 and state["curve"] == [{"l2": 0.5}]
    assert torch.equal(state["tensor"], torch.arange(4))
    resume.clear()
    assert not resume.directory.exists()


def test_the_two_newest_are_kept(resume: CheckpointManager) -> None:
    for step in range(12):
        resume.save({"step": step})
    assert [path.name[:17] for path in resume.checkpoints] == ["checkpoint-000012", "checkpoint-000011"]
    assert last_state(resume) == {"step": 11}
    assert len(list(resume.directory.iterdir())) == 3, "two checkpoints and what is said about them"


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "zip", "program", "one bit", "pickle bits"])
def test_damaged_checkpoint_is_passed_over(
    resume: CheckpointManager, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    resume.save({"step": 1})
    resume.save({"tensor": torch.zeros(1000)})
    newest = resume.checkpoints[0]
    content = newest.read_bytes()
    if kind == "zip":
        with zipfile.ZipFile(newest, "w") as archive:
            archive.writestr("a", "a")
    elif kind == "program":
        torch.save({"network": nn.Linear(1, 1)}, newest)
    else:
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 1
        damaged = {"truncated": content[:500], "empty": b"", "text": b"text", "one bit": bytes(flipped)}
        newest.write_bytes(damaged.get(kind, content.replace(b"tensor", b"ten\xffor")))
    assert last_state(resume) == {"step": 1}
    said = capsys.readouterr().err
    assert said.startswith(f"{newest}: the checkpoint is damaged (") and said.endswith("from the one before it\n")
    assert said[:-1].isprintable() and "damaged ()" not in said and len(said) < 400
    resume.checkpoints[1].write_bytes(b"")
    with pytest.raises(TrainingError, match=r"is damaged \(.*\); lpaint resume clean train_agent-0f starts over"):
        last_state(resume)


def test_a_checkpoint_with_the_right_checksum_is_still_no_program(resume: CheckpointManager) -> None:
    from lpaint.runtime.provenance import digest_file

    resume.directory.mkdir()
    path = resume.directory / "forged.pt"
    torch.save({"key": "", "commit": "", "state": nn.Linear(1, 1)}, path)
    path.rename(resume.directory / f"checkpoint-000001-{digest_file(path)[:16]}.pt")
    with pytest.raises(TrainingError, match="the checkpoint is damaged"):
        last_state(resume)


def test_another_trainings_checkpoint_is_refused(resume: CheckpointManager) -> None:
    resume.save({"step": 1})
    other = CheckpointManager(resume.directory, "train_agent", {"agent": {"gan": "sngan"}, "seed": 0})
    with pytest.raises(
        TrainingError, match=r"another training, which differs in agent\.gan \(none there, sngan here\)"
    ):
        last_state(other)


def test_a_checkpoint_that_does_not_fit_gives_way_to_the_one_before(
    resume: CheckpointManager, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = nn.Linear(1, 1), nn.Linear(2, 1)
    resume.save({"network": large.state_dict()})
    resume.save({"network": small.state_dict()})
    fitting = nn.Linear(2, 1)
    assert resume.restore(lambda state: load_part(fitting, state, "network"))
    assert torch.equal(fitting.weight, large.weight)
    said = capsys.readouterr().err
    assert "000002" in said and said.endswith("going on from the one before it\n") and said.count("\n") == 1
    assert "another version of lpaint and does not fit (network: weight is (1, 1) there and (1, 2) here)" in said
    with pytest.raises(TrainingError, match=r"does not fit \(network: weight .*starts over"):
        resume.restore(lambda state: load_part(nn.Linear(3, 1), state, "network"))


@pytest.mark.parametrize("error", [KeyError("l2"), TypeError("no"), RuntimeError("no"), AttributeError("no")])
def test_a_bug_is_not_taken_for_another_version(resume: CheckpointManager, error: Exception) -> None:
    resume.save({"step": 1})

    def fail(state: dict[str, Any]) -> None:
        raise error

    with pytest.raises(type(error)):
        resume.restore(fail)


def test_failed_save_keeps_the_last_checkpoint(resume: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    resume.save({"step": 1})
    before = sorted(resume.directory.iterdir())

    def fail(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(TrainingError, match=r"no checkpoint can be written there .*Input/output error"):
        resume.save({"step": 2})
    assert last_state(resume) == {"step": 1} and sorted(resume.directory.iterdir()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        resume = CheckpointManager(disk / "train_agent-0f")
        resume.save({"step": 1})
        with pytest.raises(TrainingError, match="no checkpoint can be written there"):
            resume.save({"tensor": torch.zeros(1_000_000)})
        assert last_state(resume) == {"step": 1}
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_training_removes_what_a_killed_one_left_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with open_checkpoints("train_agent", {"seed": 0}) as resume:
        resume.save({"step": 1})
    left = resume.directory / ".lpaint-7-0123abcd.partial.pt"
    left.touch()
    with open_checkpoints("train_agent", {"seed": 0}) as resume:
        assert not left.exists() and last_state(resume) == {"step": 1}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for seed in range(2):
        with open_checkpoints("train_agent", {"seed": seed}) as resume:
            resume.save({"step": seed}, f"update {seed} of 9")
            about = json.loads((resume.directory / "about.json").read_text())
            (resume.directory / "about.json").write_text(json.dumps(about | {"saved": time.time() - 86400 * seed}))
    return tmp_path


def _lpaint(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(["resume", *arguments])
    assert ended.value.code == code
    return capsys.readouterr()


def test_resume_state_is_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _lpaint(capsys, "list").out.splitlines()
    assert len(lines) == 2 and "update 0 of 9" in lines[0] and "update 1 of 9" in lines[1], "the newest first"
    found = json.loads(_lpaint(capsys, "list", "--json").out)
    assert [each["key"] for each in found] == [{"seed": 0}, {"seed": 1}] and found[0]["bytes"] > 100


def test_resume_state_is_cleaned(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give a NAME" in _lpaint(capsys, "clean", code=2).err
    assert "there is none" in _lpaint(capsys, "clean", "prepare", code=2).err
    assert "several begin with it" in _lpaint(capsys, "clean", "train", code=2).err
    assert "update 1 of 9" in _lpaint(capsys, "clean", "--older-than", "0.5").out
    (state,) = list_resume_folders()
    assert state.key == {"seed": 0}
    with open_checkpoints("train_agent", {"seed": 0}):
        assert f"process {os.getpid()}" in _lpaint(capsys, "list").out
        assert "kept" in _lpaint(capsys, "clean", "--all").err
    assert f"removed {state.name}" in _lpaint(capsys, "clean", state.name[:14]).out
    assert _lpaint(capsys, "list").out == "there is no resume state here\n"
