"""``lpaint bench contention``: how much slower an update is beside busy processes and other trainings.

Each training runs in its own process, because the way threads wait is a setting of the process. A training with t
threads beside k other threads on n cores has a fair share of 1 / max(1, (k + t) / n) of its speed alone.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lpaint.bench.timing import Report
from lpaint.bench.training import prepare_update
from lpaint.errors import TrainingError
from lpaint.runtime.params import Params
from lpaint.training.device import choose_compute

BUSY = (1, 2, 4)
TRAININGS = (2, 4)
_SECONDS = 600
_ENDED_EARLY = "bench contention: a training ended early; its error is above"
# Ends after the given seconds, or when its parent ends.
_LOOP = (
    "import os, sys, time\n"
    "parent, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])\n"
    "while os.getppid() == parent and time.monotonic() < end:\n"
    "    sum(range(100_000))\n"
)


def bench_contention(
    params: Params, repeats: int, busy: tuple[int, ...] = BUSY, trainings: tuple[int, ...] = TRAININGS
) -> Report:
    """Slowdown of an update relative to its fair share, median and worst, at the sizes of ``params``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with _trainings(params, 1) as [training]:
        threads = training.threads
        sizes = {"cores": cores, "threads": threads, "repeats": repeats, "load": round(os.getloadavg()[0], 1)}
        report = Report("contention", sizes)
        alone = statistics.median(training.updates(repeats))
        report.add("update alone", alone, "s")
        for count in busy:
            with busy_processes(count):
                _add(report, f"beside {count} busy", training.updates(repeats), alone, (count + threads) / cores)
    for count in trainings:
        with _trainings(params, count) as side_by_side:
            for training in side_by_side:
                training.begin(repeats)
            seconds = [second for training in side_by_side for second in training.end()]
        _add(report, f"{count} trainings", seconds, alone, count * threads / cores)
    return report


def _add(report: Report, name: str, seconds: list[float], alone: float, load: float) -> None:
    fair = max(1.0, load)
    report.add(f"{name}: fair slowdown", fair, "")
    report.add(f"{name}: median over fair", statistics.median(seconds) / alone / fair, "")
    report.add(f"{name}: worst over fair", max(seconds) / alone / fair, "")


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run ``count`` busy processes until the context or this process ends."""
    command = [sys.executable, "-c", _LOOP, str(os.getpid()), str(_SECONDS)]
    started = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


class _Training:
    """A process that runs updates on request."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lpaint.bench.contention"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:]])},
        )

    def prepare(self, params: Params) -> None:
        """Prepare updates at the sizes of ``params``."""
        self._send(params.model_dump_json(by_alias=True))

    def wait(self) -> None:
        """Wait until it is ready."""
        self.threads = int(self._receive())

    def updates(self, repeats: int) -> list[float]:
        """Run ``repeats`` updates; seconds of each."""
        self.begin(repeats)
        return self.end()

    def begin(self, repeats: int) -> None:
        """Start ``repeats`` updates."""
        self._send(str(repeats))

    def end(self) -> list[float]:
        """Wait for the started updates; seconds of each."""
        return [float(each) for each in self._receive()]

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise TrainingError(_ENDED_EARLY) from None

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise TrainingError(_ENDED_EARLY)
        return json.loads(line)


@contextmanager
def _trainings(params: Params, count: int) -> Iterator[list[_Training]]:
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            started.append(_Training())
            stack.callback(started[-1].stop)
            started[-1].prepare(params)
        for training in started:
            training.wait()
        yield started


def _serve() -> None:
    """The training process. It reads its parameters, then numbers of updates, until its input ends."""
    params = Params.model_validate_json(sys.stdin.readline())
    compute = choose_compute(params.base)
    update = prepare_update(params, compute)
    for _ in range(2):
        update()
    print(compute.threads, flush=True)
    for line in sys.stdin:
        seconds = []
        for turn in range(int(line) + 1):
            started = time.perf_counter()
            update()
            # The first update gives the other processes time to start theirs.
            if turn:
                seconds.append(time.perf_counter() - started)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    _serve()
