"""Lost ranks between GPUs, where NCCL raises nothing: settings, what the watchdog finds, how the process ends."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lpaint.errors import ExitCode
from lpaint.training.distributed import session, watchdog
from lpaint.training.distributed.watchdog import NCCL_SETTINGS, Watchdog
from tests.helpers.ranked import _free_port

# Names as in torch, where this build has no NCCL.
NcclError = Enum("NcclError", ["SUCCESS", "TIMEOUT", "COMM_ERROR", "REMOTE_ERROR"])


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in NCCL_SETTINGS:
        # Noted for the end of the test, also where it is not set now.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield


@pytest.mark.usefixtures("clean")
def test_between_gpus_torch_only_notes_errors_and_between_cpus_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert session.choose_backend() == "gloo" and not set(NCCL_SETTINGS) & set(os.environ)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert session.choose_backend() == "cpu:gloo,cuda:nccl"
    assert os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "0", "torch would abort the process without a word"
    assert os.environ["TORCH_NCCL_BLOCKING_WAIT"] == "0", "every collective would wait for the GPU"
    monkeypatch.setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    session.choose_backend()
    assert os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "1", "what the user sets stays"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store of two ranks, of which this process is rank 0, and rank 1 its parent."""
    found = dist.HashStore()  # type: ignore[attr-defined]
    for number, process in enumerate((os.getpid(), os.getppid())):
        found.set(f"lpaint/rank{number}", f"{platform.node()} {process}")
    monkeypatch.setattr(session, "world_size", lambda: 2)
    monkeypatch.setattr(session, "rank", lambda: 0)
    return found


def _record(monkeypatch: pytest.MonkeyPatch, error: Enum) -> None:
    monkeypatch.setattr(watchdog, "nccl_backend", lambda: SimpleNamespace(get_error=lambda: error))


def test_the_watchdog_finds_killed_ended_and_lost_ranks(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    local = session._local_ranks(store)
    assert local == [1] and session._find_lost_rank(store, local) is None
    _record(monkeypatch, NcclError.SUCCESS)
    assert session._find_lost_rank(store, local) is None
    _record(monkeypatch, NcclError.REMOTE_ERROR)
    assert str(session._find_lost_rank(store, local)).startswith(
        "rank 0 lost the connection to the other ranks (remote error); look for"
    )
    gone = subprocess.Popen(["true"])
    gone.wait()
    store.set("lpaint/rank1", f"{platform.node()} {gone.pid}")
    assert str(session._find_lost_rank(store, local)).startswith(
        f"rank 1 (process {gone.pid}) of 2 was killed; run the same"
    )
    _record(monkeypatch, NcclError.SUCCESS)
    assert session._find_lost_rank(store, session._local_ranks(store)) is None, "it was never seen on this machine"
    store.set("lpaint/done1", "")
    assert session._find_lost_rank(store, local) is None, "it has come to its end"
    store.set("lpaint/end", "1 5")
    assert session._find_lost_rank(store, local) == ""


def test_a_store_that_is_gone_is_a_lost_rank(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(keys: list[str]) -> bool:
        raise dist.DistNetworkError("Connection reset by peer\nat TCPStore.cpp")

    assert "(Connection reset by peer)" in str(session._find_lost_rank(SimpleNamespace(check=fail), [1]))


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The codes with which the process would have ended, and the aborts of NCCL's kernels."""
    found: list[Any] = []
    monkeypatch.setattr(watchdog, "_INTERVAL", 0.01)
    monkeypatch.setattr(watchdog, "_GRACE", 0.3)
    monkeypatch.setattr(os, "_exit", found.append)
    monkeypatch.setattr(watchdog, "nccl_backend", lambda: SimpleNamespace(abort=lambda: found.append("abort")))
    return found


@pytest.mark.parametrize(
    ("sentence", "claimed", "told"),
    [
        ("rank 1 was killed", (1, True), "error: rank 1 was killed\n"),
        ("rank 1 was killed", (5, False), ""),
        ("", (5, False), ""),
    ],
)
def test_a_rank_that_waits_for_the_gpu_is_ended_with_the_first_code_and_one_sentence(
    ended: list[Any], capsys: pytest.CaptureFixture[str], sentence: str, claimed: tuple[int, bool], told: str
) -> None:
    asked: list[int] = []

    def register_exit(code: int) -> tuple[int, bool]:
        asked.append(code)
        return claimed

    results = iter([None, None, sentence])
    dog = Watchdog(lambda: next(results), register_exit)
    dog.start()
    dog.join(10)
    assert ended == ["abort", claimed[0]] and asked == [ExitCode.SOME_FAILED]
    assert capsys.readouterr().err == told


def test_a_rank_that_comes_back_ends_by_itself(ended: list[Any]) -> None:
    dog = Watchdog(lambda: "rank 1 was killed", lambda code: (code, True))
    dog.start()
    while not ended:
        pass
    dog.stop()
    dog.join(10)
    assert ended == ["abort"] and dog.problem == "rank 1 was killed"
    quiet = Watchdog(lambda: None, lambda code: (code, True))
    quiet.start()
    quiet.stop()
    quiet.join(10)
    assert quiet.problem is None and ended == ["abort"]


_JOB = """
import os, signal, sys, time
from lpaint.training.distributed import session, watchdog
from lpaint.errors import TrainingError
from stages.runner import report_errors

session.choose_backend = lambda: BACKEND
join = session._join
# This build of torch has gloo alone, which joins them; all else is as between GPUs.
session._join = lambda backend, timeout: join("gloo", timeout)
watchdog._INTERVAL, watchdog._GRACE = 0.1, 0.5
BACKEND = "cpu:gloo,cuda:nccl"
with report_errors("train_agent"), session.process_group() as is_main:
    if is_main:
        WHAT
    else:
        OTHER
"""
_STUCK = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); time.sleep(200)"


def _job(what: str, other: str) -> list[tuple[int, str]]:
    """Exit codes and errors of two ranks that do ``what`` and ``other``."""
    script = _JOB.replace("WHAT", what).replace("OTHER", other)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | place | {"RANK": str(number)},
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for number in range(2)
    ]
    # The first to end is waited for first, as torchrun does: a process that nobody waits for is still there.
    errors = [rank.communicate(timeout=100)[1] for rank in reversed(ranks)]
    return [(rank.returncode, error) for rank, error in zip(ranks, reversed(errors), strict=True)]


@pytest.mark.parametrize(
    ("other", "code", "words"),
    [
        ("time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)", 1, "was killed; run the same command again"),
        ("raise TrainingError('it diverged')", 1, ""),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_a_rank_stuck_on_the_gpu_ends_with_the_others(other: str, code: int, words: str) -> None:
    (stuck, told), (_, said) = _job(_STUCK, other)
    assert stuck == code and "Traceback" not in told + said
    lines = [line for line in (told + said).splitlines() if line.startswith(("error: ", "train_agent: "))]
    assert len(lines) == 1 and words in lines[0], "one sentence in all"


def test_a_rank_that_is_done_first_is_not_taken_for_lost() -> None:
    assert _job("time.sleep(8)", "pass") == [(0, ""), (0, "")]
