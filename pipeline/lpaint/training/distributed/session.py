"""Start and end of a training in several processes: they join one group, and no process outlives another.

The first rank that fails writes its exit code to the store that ``torchrun`` keeps, and then ends. The other ranks find
the code there and end with it, without a message, so that the user reads one error. If a process is gone and has
written no code, it was killed; the first rank that notices reports that.
"""

import os
import platform
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from lpaint.errors import ExitCode, LpaintError, ParamsError, TrainingError, one_line
from lpaint.files import is_running
from lpaint.runtime.interruption import HANGUP
from lpaint.training.distributed.collectives import LostRankError, is_main, lost_rank_message, rank, world_size
from lpaint.training.distributed.watchdog import NCCL_SETTINGS, Watchdog, nccl_error

_TIMEOUT = "LPAINT_RANKS_TIMEOUT"
# Seconds until torchrun's agent notices that a process is gone.
_AGENT_DELAY = 3.0
_EXIT_KEY, _READY_KEY = "lpaint/end", "lpaint/go"


@contextmanager
def process_group() -> Iterator[bool]:
    """Join the processes that ``torchrun`` started, if there are several; yields whether this is rank 0.

    Gradients and statistics go through NCCL between GPUs and through gloo between CPUs. A rank that does not answer for
    ``LPAINT_RANKS_TIMEOUT`` seconds (default 600) is lost. Between GPUs a ``Watchdog`` looks for lost ranks.

    Raises:
        TrainingError: the processes did not find each other, or one of them died.
        SystemExit: another rank ended and has reported why; with that rank's exit code.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    backend = choose_backend()
    store = _join(backend, _timeout())
    watchdog = None
    if "nccl" in backend:
        local = _local_ranks(store)
        watchdog = Watchdog(lambda: _find_lost_rank(store, local), lambda code: _register_exit(store, code))
        watchdog.start()
    try:
        yield is_main()
    except BaseException as error:
        if watchdog is not None:
            watchdog.stop()
            if watchdog.problem and isinstance(error, Exception):
                # Aborted NCCL calls leave NaN behind; the error may come from a check that found it.
                error = LostRankError(watchdog.problem)
        raise _final_error(store, error) from None
    if watchdog is not None:
        watchdog.stop()
        with suppress(RuntimeError):
            # Tells the other ranks' watchdogs that this process ended as planned.
            store.set(_done_key(rank()), "")
    dist.destroy_process_group()


def wait_for_main() -> None:
    """Wait until rank 0 calls this function, without a timeout: rank 0 may have to wait itself."""
    if world_size() == 1:
        return
    store: Any = dist.distributed_c10d._get_default_store()
    if is_main():
        store.set(_READY_KEY, "")
    while not store.check([_READY_KEY]):
        time.sleep(0.2)


def _timeout() -> timedelta:
    text = os.environ.get(_TIMEOUT, "600")
    if not text.isdecimal() or int(text) == 0:
        raise ParamsError(f"{_TIMEOUT} is {text!r}; give a whole number of seconds above 0")
    return timedelta(seconds=int(text))


def choose_backend() -> str:
    """gloo between CPUs, NCCL between GPUs; sets ``NCCL_SETTINGS`` where the user has not (see ``watchdog``)."""
    if not torch.cuda.is_available():
        return "gloo"
    for name, value in NCCL_SETTINGS.items():
        os.environ.setdefault(name, value)
    return "cpu:gloo,cuda:nccl"


def _join(backend: str, timeout: timedelta) -> Any:
    try:
        store, number, ranks = next(rendezvous("env://", timeout=timeout))
        store.set(_process_key(number), f"{platform.node()} {os.getpid()}")
        dist.init_process_group(backend, store=store, rank=number, world_size=ranks, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        reason = one_line(str(error).splitlines()[0])
        raise TrainingError(
            f"the processes did not find each other ({reason}); start as many as torchrun expects"
        ) from None
    return store


def _final_error(store: Any, error: BaseException) -> BaseException:
    """The exception with which this rank ends.

    SystemExit if another rank has reported its own error first; a TrainingError if ``error`` only follows from a killed
    rank; else ``error``.
    """
    # A signal from the process that ends all ranks must not interrupt this rank's message.
    for number in (signal.SIGINT, signal.SIGTERM, *HANGUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        if isinstance(error, LostRankError | KeyboardInterrupt):
            killed = _wait_for_killed_rank(store, _AGENT_DELAY if isinstance(error, LostRankError) else 0.0)
            error = TrainingError(killed) if killed else error
        code, reports = _register_exit(store, _exit_code(error))
    except RuntimeError:
        # The store is gone, so torchrun has ended.
        return error
    return error if reports else SystemExit(code)


def _register_exit(store: Any, code: int) -> tuple[int, bool]:
    """Record this rank's exit code unless another rank was first; returns the recorded code, and whether it is ours."""
    entry = f"{rank()} {code}"
    first = store.compare_set(_EXIT_KEY, "", entry).decode()
    return int(first.split()[1]), first == entry


def _find_lost_rank(store: Any, local: Iterable[int]) -> str | None:
    """The ``check`` of ``Watchdog``; ``local`` are the other ranks of this machine."""
    try:
        if store.check([_EXIT_KEY]):
            return ""
        if killed := _killed_rank(store, [other for other in local if not store.check([_done_key(other)])]):
            return killed
    except RuntimeError as error:
        return lost_rank_message(one_line(str(error).splitlines()[0]))
    recorded = nccl_error()
    return lost_rank_message(recorded) if recorded else None


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return error.exit_code if isinstance(error, LpaintError) else 1


def _wait_for_killed_rank(store: Any, patience: float) -> str:
    """The message on a killed rank of this machine; empty if none is killed for ``patience`` s or a rank reports."""
    deadline = time.monotonic() + patience
    while not store.check([_EXIT_KEY]):
        if killed := _killed_rank(store, range(world_size())):
            return killed
        if time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    return ""


def _killed_rank(store: Any, ranks: Iterable[int]) -> str:
    """The message on the first of ``ranks`` that ran on this machine and is gone; empty if there is none."""
    for other in ranks:
        machine, process = store.get(_process_key(other)).decode().split()
        if machine == platform.node() and not is_running(int(process)):
            return (
                f"rank {other} (process {process}) of {world_size()} was killed; "
                "run the same command again to go on from the last checkpoint"
            )
    return ""


def _local_ranks(store: Any) -> list[int]:
    """The other ranks that run on this machine.

    Two machines may have the same name, so a rank counts only if its process is running here.
    """
    processes = {other: store.get(_process_key(other)).decode().split() for other in range(world_size())}
    return [
        other
        for other, (machine, process) in processes.items()
        if other != rank() and machine == platform.node() and is_running(int(process))
    ]


def _done_key(number: int) -> str:
    return f"lpaint/done{number}"


def _process_key(number: int) -> str:
    return f"lpaint/rank{number}"
