"""The beginning and the end of a training in several processes: they find each other, and none outlives another.

The first rank that ends before its time writes its exit code into the store that ``torchrun`` keeps, and only then
ends; the others find it there, and end with the same code and no word, so that a user reads one sentence. Where nothing
is written and a process is gone, it was killed, and the first that notices says so.
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
from lpaint.training.distributed.collectives import LostRankError, is_main, lost_touch, rank, world_size
from lpaint.training.distributed.watch import NCCL_SETTINGS, Watch, nccl_error

_TIMEOUT = "LPAINT_RANKS_TIMEOUT"
# Seconds until torchrun's agent has noticed that a process is gone.
_NOTICED = 3.0
_END, _GO = "lpaint/end", "lpaint/go"


@contextmanager
def process_group() -> Iterator[bool]:
    """Join the processes that ``torchrun`` started, if there are several; yields whether this is the leading rank 0.

    Gradients and statistics go through NCCL between GPUs and through gloo between CPUs. A rank that is not heard of for
    ``LPAINT_RANKS_TIMEOUT`` seconds (600 where it is not set) is given up. Between GPUs a thread looks for lost ranks.

    Raises:
        TrainingError: the processes did not find each other, or one of them died.
        SystemExit: another rank ended, and has said why; with its exit code.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield True
        return
    backend = choose_backend()
    store = _join(backend, _timeout())
    watch = None
    if "nccl" in backend:
        near = _alive_here(store)
        watch = Watch(lambda: _look(store, near), lambda code: _claim(store, code))
        watch.start()
    try:
        yield is_main()
    except BaseException as error:
        if watch is not None:
            watch.stop()
            if watch.found and isinstance(error, Exception):
                # What NCCL left behind when it was aborted is no number, and any check may trip over it.
                error = LostRankError(watch.found)
        raise _ending(store, error) from None
    if watch is not None:
        watch.stop()
        with suppress(RuntimeError):
            # For the others' look-outs: this process is gone, but not lost.
            store.set(_done(rank()), "")
    dist.destroy_process_group()


def wait_for_main() -> None:
    """Wait until rank 0 comes by, for as long as that takes: it may have to wait for something itself."""
    if world_size() == 1:
        return
    store: Any = dist.distributed_c10d._get_default_store()
    if is_main():
        store.set(_GO, "")
    while not store.check([_GO]):
        time.sleep(0.2)


def _timeout() -> timedelta:
    text = os.environ.get(_TIMEOUT, "600")
    if not text.isdecimal() or int(text) == 0:
        raise ParamsError(f"{_TIMEOUT} is {text!r}; give a whole number of seconds above 0")
    return timedelta(seconds=int(text))


def choose_backend() -> str:
    """gloo between CPUs, NCCL between GPUs, of which torch then only notes the errors (see ``watch``)."""
    if not torch.cuda.is_available():
        return "gloo"
    for name, value in NCCL_SETTINGS.items():
        os.environ.setdefault(name, value)
    return "cpu:gloo,cuda:nccl"


def _join(backend: str, timeout: timedelta) -> Any:
    try:
        store, number, ranks = next(rendezvous("env://", timeout=timeout))
        store.set(_place(number), f"{platform.node()} {os.getpid()}")
        dist.init_process_group(backend, store=store, rank=number, world_size=ranks, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        reason = one_line(str(error).splitlines()[0])
        raise TrainingError(
            f"the processes did not find each other ({reason}); start them by torchrun, as many as it is told"
        ) from None
    return store


def _ending(store: Any, error: BaseException) -> BaseException:
    """What this rank ends with: ``error`` itself, what it was a sign of, or silence if another rank has spoken."""
    # Whoever ends the others would cut this one's sentence short.
    for number in (signal.SIGINT, signal.SIGTERM, *HANGUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        if isinstance(error, LostRankError | KeyboardInterrupt):
            dead = _dead(store, _NOTICED if isinstance(error, LostRankError) else 0.0)
            error = TrainingError(dead) if dead else error
        code, speaks = _claim(store, _exit_code(error))
    except RuntimeError:
        # The store is gone, and torchrun with it.
        return error
    return error if speaks else SystemExit(code)


def _claim(store: Any, code: int) -> tuple[int, bool]:
    """The exit code of the first rank that ends before its time, and whether that is this one, which then speaks."""
    mine = f"{rank()} {code}"
    first = store.compare_set(_END, "", mine).decode()
    return int(first.split()[1]), first == mine


def _look(store: Any, near: Iterable[int]) -> str | None:
    """What a look-out sees that knows of the ranks ``near`` that they ran on this machine; see ``Watch``."""
    try:
        if store.check([_END]):
            return ""
        if killed := _killed(store, [other for other in near if not store.check([_done(other)])]):
            return killed
    except RuntimeError as error:
        return lost_touch(one_line(str(error).splitlines()[0]))
    noted = nccl_error()
    return lost_touch(noted) if noted else None


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return error.exit_code if isinstance(error, LpaintError) else 1


def _dead(store: Any, patience: float) -> str:
    """A sentence on a rank of this machine that was killed; empty if none was, or another has told of its end."""
    deadline = time.monotonic() + patience
    while not store.check([_END]):
        if killed := _killed(store, range(world_size())):
            return killed
        if time.monotonic() >= deadline:
            break
        time.sleep(0.1)
    return ""


def _killed(store: Any, ranks: Iterable[int]) -> str:
    """A sentence on one of ``ranks`` that is of this machine and gone; empty if none is."""
    for other in ranks:
        machine, process = store.get(_place(other)).decode().split()
        if machine == platform.node() and not is_running(int(process)):
            return (
                f"rank {other} (process {process}) of {world_size()} was killed; "
                "run the same command again to go on from the last checkpoint"
            )
    return ""


def _alive_here(store: Any) -> list[int]:
    """The other ranks of this machine.

    Several machines may have one name, and a process that was never here is not gone.
    """
    places = {other: store.get(_place(other)).decode().split() for other in range(world_size()) if other != rank()}
    return [
        other for other, (machine, process) in places.items() if machine == platform.node() and is_running(int(process))
    ]


def _done(number: int) -> str:
    return f"lpaint/done{number}"


def _place(number: int) -> str:
    return f"lpaint/rank{number}"
