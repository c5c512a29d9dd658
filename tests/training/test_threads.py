"""Threads that share their cores with other processes, and the number of them that a training keeps."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lpaint.training import threads
from lpaint.training.device import Compute, restore_threads
from lpaint.training.threads import Throttle, queueing_seconds, share_cores

needs_libgomp = pytest.mark.skipif(threads._libgomp() is None, reason="torch's OpenMP runtime is not GNU's")


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _gradients(groups: int = 1, transposed: bool = False) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    seen = torch.randn(6, 8, 12, 12, generator=rng).requires_grad_()
    weight = torch.randn(8, 8 // groups, 3, 3, generator=rng).requires_grad_()
    bias = torch.randn(8, generator=rng).requires_grad_()
    apply = F.conv_transpose2d if transposed else F.conv2d
    found = apply(seen, weight, bias, stride=2, padding=1, groups=groups)
    # The penalty of a GAN differentiates a gradient.
    (slope,) = torch.autograd.grad(found.square().sum(), seen, create_graph=True)
    return list(torch.autograd.grad(slope.square().sum() + found.sum(), [seen, weight, bias]))


@needs_libgomp
@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize(("groups", "transposed"), [(1, False), (2, False), (1, True)])
@pytest.mark.parametrize("part", [1, 1 << 40])
def test_gradients_are_torchs_own(monkeypatch: pytest.MonkeyPatch, groups: int, transposed: bool, part: int) -> None:
    monkeypatch.setattr(threads, "_MIN_WORK", part)
    share_cores(2)
    mine = _gradients(groups, transposed)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for gradient, expected in zip(mine, _gradients(groups, transposed), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-3)


@needs_libgomp
@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("part", [1, 1 << 40])
def test_no_weight_gradient_is_computed_by_threads_that_meet_at_a_barrier(
    monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(threads, "_MIN_WORK", part)
    share_cores(2)
    original, seen = threads._torch_backward, []

    def note(*arguments: object) -> object:
        mask = arguments[-1]
        assert isinstance(mask, list)
        seen.append((mask[1], torch.get_num_threads()))
        return original(*arguments)

    monkeypatch.setattr(threads, "_torch_backward", note)
    image, weight = torch.randn(4, 3, 8, 8, requires_grad=True), torch.randn(5, 3, 3, 3, requires_grad=True)
    F.conv2d(image, weight).sum().backward()
    assert seen.count((True, 1)) == (2 if part == 1 else 1) and (True, 2) not in seen
    assert torch.get_num_threads() == 2


def test_without_room_for_its_threads_the_throttle_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # libgomp ends the process where it cannot start a thread.
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    throttle = Throttle()
    throttle.on()
    assert not throttle.active


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs sched_getaffinity")
def test_the_team_is_one_more_than_the_cores_that_the_process_may_use() -> None:
    assert threads._team_size() == len(os.sched_getaffinity(0)) + 1


@needs_libgomp
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_the_throttle_adds_sleeping_threads_and_ends_them() -> None:
    script = (
        "import os, torch, time\nfrom lpaint.training.threads import Throttle\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "before, throttle = count(), Throttle()\n"
        "throttle.on(); throttle.on(); during = count()\n"
        "throttle.off(); throttle.off()\n"
        "for _ in range(100):\n"
        "    if count() == before: break\n"
        "    time.sleep(0.05)\n"
        "print(during - before, count() - before, os.cpu_count())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    during, after, cores = map(int, done.stdout.split())
    assert during == cores + 1, "more than one thread a core, the one that holds the team among them"
    assert after == 0


@needs_libgomp
@pytest.mark.parametrize(("policy", "watched"), [({}, True), ({"OMP_WAIT_POLICY": "active"}, False)])
def test_a_stage_monitors_its_cores_unless_the_user_chose_a_policy(
    monkeypatch: pytest.MonkeyPatch, policy: dict[str, str], watched: bool
) -> None:
    for name in threads.WAIT_POLICY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in policy.items():
        monkeypatch.setenv(name, value)
    started: list[bool] = []
    monkeypatch.setattr(threads, "_start_monitor", lambda: started.append(True))
    share_cores(2)
    assert bool(started) == watched


def test_the_monitor_throttles_while_the_process_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    # First measurement, one below the limit, a busy one, those while throttled, a free trial, a busy one.
    queued = iter([0.0, 0.15, 0.5, *[0.5] * threads._TRIAL_INTERVAL, 0.5, 1.0])
    clock, told = iter(range(100)), []

    class Recorded(Throttle):
        active = False

        def on(self) -> None:
            told.append("on")
            self.active = True

        def off(self) -> None:
            told.append("off")
            self.active = False

    monkeypatch.setattr(threads, "Throttle", Recorded)
    monkeypatch.setattr(threads, "queueing_seconds", lambda: next(queued))
    monkeypatch.setattr("lpaint.training.threads.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("lpaint.training.threads.time.sleep", lambda _: None)
    with pytest.raises(StopIteration):  # the numbers come to an end
        threads._monitor()
    assert told == ["on", "off", "on"]


def test_queueing_never_falls_and_needs_no_proc() -> None:
    first = queueing_seconds()
    assert 0 <= first <= queueing_seconds() + 1


def test_the_threads_of_the_checkpoint_win(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    began, elsewhere = Compute("cpu", "fp32", 2, compile=False), Compute("cpu", "fp32", 16, compile=False)
    try:
        assert restore_threads(elsewhere, tmp_path, resuming=False).threads == 16
        assert restore_threads(began, tmp_path, resuming=False).threads == 2, "without a checkpoint it begins here"
        assert restore_threads(elsewhere, tmp_path, resuming=True).threads == 2
        assert torch.get_num_threads() == 2 and "as the training began" in capsys.readouterr().out
    finally:
        torch.set_num_threads(before)
