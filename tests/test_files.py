"""What lies on disk: whole files or none, resume state, weights, and where paths lead."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lpaint.errors import ModelError
from lpaint.files import atomic_write, is_partial, lock_file, remove_stale_partials, write_json, write_text
from lpaint.runtime.paths import repository_root, resolve_data_path, resume_directory
from lpaint.training.checkpoint import generator_state, open_checkpoints, restore_generator
from lpaint.training.weights import load_weights, save_weights
from tests.helpers.checkpoints import last_state


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.json"
    write_text(path, "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error
    assert path.read_text() == "old" and [each.name for each in path.parent.iterdir()] == ["report.json"]
    # The body wrote nothing at all.
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass
    assert path.read_text() == "old" and len(list(path.parent.iterdir())) == 1


def test_temporary_file_stands_beside_its_target_with_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == path.parent and temporary.suffix == ".png" and not path.exists()
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_linked_original_is_left_alone(tmp_path: Path) -> None:
    """DVC links outputs into its cache: writing through the link would damage what is cached."""
    cached = tmp_path / "cached"
    for name, link in (("hard", Path.hardlink_to), ("soft", Path.symlink_to)):
        cached.write_text("cached")
        link(tmp_path / name, cached)
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new" and cached.read_text() == "cached"


@pytest.mark.parametrize("name", ["a" * 255, "a" * 251 + ".txt", "画" * 85, "a." + "b" * 253])
def test_names_may_be_as_long_as_the_disk_takes(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "long")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_empty_file_is_written_too_and_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    write_text(path, "")
    assert path.read_text() == ""
    with atomic_write(path) as one, atomic_write(path) as other:
        assert one != other and is_partial(one) and not is_partial(path)
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


def test_only_old_unlocked_partials_are_removed(tmp_path: Path) -> None:
    names = (
        ".lpaint-7-0123abcd.partial.png",
        ".actor.7.partial.safetensors",
        ".hidden",
        ".a.partial",
        "a.7.partial.png",
    )
    old, earlier, *others = (tmp_path / name for name in names)
    film = tmp_path / ".film.2024.partial.mkv"
    for path in (old, earlier, film, *others):
        path.touch()
    remove_stale_partials(tmp_path / "nowhere")
    remove_stale_partials(tmp_path)
    assert len(list(tmp_path.iterdir())) == 6, "fresh ones stay"
    with atomic_write(tmp_path / "mine") as mine:
        mine.touch()
        for path in tmp_path.iterdir():
            os.utime(path, (time.time() - 90_000,) * 2)
        remove_stale_partials(tmp_path)
        # This process's file is as old, but locked; the numbers in the others' names are not asked.
        assert set(tmp_path.iterdir()) == {mine, earlier, film, *others}
        film.unlink()
        # In lpaint's own folders, what earlier versions left goes too.
        remove_stale_partials(tmp_path, include_legacy=True)
        assert set(tmp_path.iterdir()) == {mine, *others}
        remove_stale_partials(tmp_path, min_age=0)
        assert mine.exists()
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_json_holds_finite_numbers_only(tmp_path: Path, number: float) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"l2": 0.25, "strokes": [25, 50]})
    assert json.loads(path.read_text()) == {"l2": 0.25, "strokes": [25, 50]}
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"l2": [number]})
    assert json.loads(path.read_text())["l2"] == 0.25 and list(tmp_path.iterdir()) == [path]


def test_paths_hang_on_the_root_that_dvc_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert repository_root() == elsewhere.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert resolve_data_path("../a.zip") == (tmp_path.parent / "a.zip").resolve()
    assert resolve_data_path("/data/a.zip") == Path("/data/a.zip")
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolve_data_path("~/a.zip") == Path("/home/someone/a.zip")
    assert resume_directory("train_agent", "0f") == tmp_path.resolve() / ".lpaint/resume/train_agent-0f"


def test_resume_folder_is_keyed_by_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folders = []
    for key in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3}):
        with open_checkpoints("train_agent", key) as resume:
            folders.append(resume.directory)
    assert folders[0] == folders[1] != folders[2]
    with open_checkpoints("pretrain_renderer", {"a": 1, "b": 2}) as resume:
        assert resume.directory not in folders
    assert {folder.parent for folder in folders} == {tmp_path.resolve() / ".lpaint" / "resume"}


def test_clearing_keeps_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with open_checkpoints("train_agent", {"seed": 0}) as resume:
        resume.save({"step": 1})
        resume.clear()
        with resume.directory.with_suffix(".lock").open() as lock:
            assert lock.read() == str(os.getpid()) and not lock_file(lock, wait=False)
    with open_checkpoints("train_agent", {"seed": 0}) as resume:
        assert last_state(resume) is None


def _hold(root: str, ready: Event, done: Event) -> None:
    import os

    os.environ["DVC_ROOT"] = root
    with open_checkpoints("train_agent", {"seed": 0}):
        ready.set()
        done.wait(30)


def test_of_two_processes_with_one_training_the_second_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with open_checkpoints("train_agent", {"seed": 1}):
            assert not capsys.readouterr().err, "another training need not wait"
        release = threading.Timer(0.5, done.set)
        release.start()
        with open_checkpoints("train_agent", {"seed": 0}) as resume:
            assert done.is_set(), "not before the other has ended"
            resume.save({"step": 1})
        expected = f"train_agent: process {other.pid} is running the same training; waiting for it to end"
        assert capsys.readouterr().err.strip() == expected
    finally:
        done.set()
        other.join()


# A stand-in for Windows: no fcntl, no SIGHUP, folders that cannot be opened, and byte ranges that can be locked.
WINDOWS = """
import fcntl, json, os, pathlib, signal, sys, tempfile, threading, types
from lpaint.runtime import messages
from multiprocessing import connection

def locking(handle, mode, length, lock=fcntl.lockf):
    try:
        lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, length, os.lseek(handle, 0, os.SEEK_CUR))
    except OSError:
        raise PermissionError(13, "Permission denied") from None

def closed_folders(path, flags, *rest, opens=os.open):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied")
    return opens(path, flags, *rest)

sys.modules |= {"fcntl": None, "msvcrt": types.SimpleNamespace(locking=locking, LK_NBLCK=2)}
sys.platform, os.open = "win32", closed_folders
del signal.SIGHUP
from lpaint.files import lock_file, remove_stale_partials, write_text
from lpaint.runtime.interruption import defer_signals, interrupt_on_signals
path = pathlib.Path(sys.argv[1])
write_text(path.with_name("written"), "whole")
remove_stale_partials(path.parent, min_age=0)
with interrupt_on_signals(), defer_signals(""), path.open("r+") as file:
    print(*(lock_file(file, wait=wait == "True", shared=shared == "True")
            for wait, shared in (each.split("-") for each in sys.argv[2:])), file.read(), flush=True)
    input()
"""


def _on_windows(path: Path, *locks: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WINDOWS, str(path), *locks]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("held", "asked", "given"), [("False", "False", "False"), ("True", "False", "False"), ("True", "True", "True")]
)
def test_files_are_written_and_locked_on_windows_too(tmp_path: Path, held: str, asked: str, given: str) -> None:
    path = tmp_path / "lock"
    path.write_text("holder")
    holder = _on_windows(path, f"True-{held}")
    assert holder.stdout is not None and holder.stdout.readline() == "True holder\n"
    assert _on_windows(path, f"False-{asked}").communicate("\n")[0] == f"{given} holder\n"
    waiting = _on_windows(path, "True-False")
    time.sleep(0.3)
    holder.kill()
    holder.communicate()
    # The system has unlocked what a killed process held.
    assert waiting.communicate("\n")[0] == "True holder\n"
    assert {each.name for each in tmp_path.iterdir()} == {"lock", "written"}


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
    assert set(state) == set(network.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "truncated", "foreign", "no json"])
def test_bad_weights_name_the_stage_to_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.safetensors"
    if kind == "text":
        path.write_text("no weights")
    elif kind == "truncated":
        save_weights(path, nn.Linear(2, 2), {})
        path.write_bytes(path.read_bytes()[:-4])
    elif kind == "folder":
        path.mkdir()
    elif kind in ("foreign", "no json"):
        save_file({"a": torch.zeros(1)}, path, metadata={"settings": "width 4"} if kind == "no json" else None)
    with pytest.raises(ModelError, match=r"run `dvc repro (-f )?train_agent`") as caught:
        load_weights(path, "train_agent")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
