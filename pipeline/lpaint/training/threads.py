"""How torch's CPU threads wait for each other, so that a training shares its cores with other processes.

Two things wait without giving up the core, and make a training many times slower on a busy machine:

- oneDNN's weight gradient of a convolution has barriers inside, several for each image, that spin until the last
  thread arrives. ``share_cores`` computes this gradient with one thread, and a large one in parts of the batch.
- libgomp's barriers spin for milliseconds. That is fastest while the cores are free: waking a thread takes longer than
  most pauses. libgomp spins for microseconds only while it manages more threads than there are cores. ``share_cores``
  starts a watcher that brings this about, by a team of sleeping threads, while this process queues for cores.

The watcher changes how threads wait, never how many compute or what they compute.
"""

import ctypes
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What a user sets to choose a waiting policy; the watcher leaves it alone then.
POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# Multiplications that are worth a thread of their own: about a millisecond.
_PART = 1 << 27
_INTERVAL = 0.2
# Seconds of queueing for a core per second, over all threads, above which the machine is busy.
_BUSY = 0.2
# Looks after which a throttle is tried without. Sleeping threads queue behind each other even on a free machine, so
# only spinning ones tell whether others compete.
_TRIAL = 25


def share_cores(threads: int) -> None:
    """Let ``threads`` CPU threads of torch get on beside other processes. Needs libgomp; elsewhere it does nothing."""
    runtime = _libgomp()
    if runtime is None:
        return
    _replace_weight_gradient()
    if threads > 1 and not any(name in os.environ for name in POLICIES):
        _watch()


class Throttle:
    """Makes libgomp's barriers give up their core after microseconds, from ``on`` to ``off``."""

    def __init__(self) -> None:
        self._end: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def active(self) -> bool:
        """Whether barriers are throttled."""
        return self._end is not None

    def on(self) -> None:
        """Have libgomp manage more threads than there are cores; the added ones sleep.

        Where so many threads cannot be had it does nothing: libgomp would end the process.
        """
        if self._end is None and _can_start(_team()):
            self._end, ready = threading.Event(), threading.Event()
            self._thread = threading.Thread(target=_hold_team, args=(ready, self._end), daemon=True)
            self._thread.start()
            ready.wait()

    def off(self) -> None:
        """End the added threads: libgomp discards a team whose first thread ends."""
        if self._end is not None and self._thread is not None:
            self._end.set()
            self._thread.join()
            self._end = self._thread = None


def queueing_seconds() -> float:
    """How long the process's other threads have been ready to run but had no core; 0 where the system does not say."""
    total, mine = 0, str(threading.get_native_id())
    for task in Path("/proc/self/task").glob("*/schedstat"):
        if task.parent.name == mine:
            continue
        try:
            total += int(task.read_text(encoding="ascii").split()[1])
        except (OSError, IndexError, ValueError):
            continue  # the thread ended
    return total / 1e9


def _hold_team(ready: threading.Event, end: threading.Event) -> None:
    runtime = _libgomp()
    assert runtime is not None
    nothing = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # free(NULL): a body that does nothing
    runtime.GOMP_parallel(nothing, None, ctypes.c_uint(_team()), ctypes.c_uint(0))
    ready.set()
    end.wait()


def _team() -> int:
    """One thread more than libgomp counts cores: those that this process may run on."""
    return 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _can_start(count: int) -> bool:
    """Whether ``count`` more threads can be started."""
    end, started = threading.Event(), []
    try:
        for _ in range(count):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        return False
    finally:
        end.set()
        for thread in started:
            thread.join()
    return True


@cache
def _watch() -> None:
    threading.Thread(target=_watch_queue, name="lpaint-watch-cores", daemon=True).start()


def _watch_queue() -> None:
    throttle, looks = Throttle(), 0
    queued, then = queueing_seconds(), time.monotonic()
    while True:
        time.sleep(_INTERVAL)
        waited, now = queueing_seconds(), time.monotonic()
        busy = waited - queued > _BUSY * (now - then)
        queued, then = waited, now
        looks += 1
        if throttle.active:
            if looks >= _TRIAL:
                throttle.off()
        elif busy:
            throttle.on()
            looks = 0


@cache
def _libgomp() -> ctypes.CDLL | None:
    """The OpenMP runtime that torch has loaded, if it is GNU's."""
    try:
        runtime = ctypes.CDLL(None)
        _ = runtime.GOMP_parallel, runtime.omp_set_num_threads
    except (AttributeError, OSError, TypeError):
        return None
    # LLVM's runtime has these names, too.
    return None if hasattr(runtime, "__kmpc_fork_call") else runtime


@cache
def _replace_weight_gradient() -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL")
    library.impl("convolution_backward", _convolution_backward, "CPU")
    return library


@cache
def _helpers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "lpaint-gradient", initializer=_compute_alone)


def _compute_alone() -> None:
    torch.get_num_threads()  # makes torch set this thread up, which it does once
    _set_own_threads(1)


def _set_own_threads(threads: int) -> None:
    """Threads of the calling thread's operations; ``torch.set_num_threads`` would rebuild other pools at every call."""
    runtime = _libgomp()
    assert runtime is not None
    runtime.omp_set_num_threads(ctypes.c_int(threads))


def _original(*arguments: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    # Called in this way it releases the GIL.
    key = torch._C.DispatchKey.CompositeExplicitAutograd
    found: tuple[Tensor | None, Tensor | None, Tensor | None]
    found = torch.ops.aten.convolution_backward.default._op_dk(key, *arguments)
    return found


def _convolution_backward(
    gradient: Tensor,
    seen: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """aten::convolution_backward: the input's gradient with all threads, the weights' without barriers."""
    settings = (bias_sizes, stride, padding, dilation, transposed, output_padding, groups)
    threads = torch.get_num_threads()
    if threads == 1 or not wanted[1]:
        return _original(gradient, seen, weight, *settings, wanted)
    of_seen = _original(gradient, seen, weight, *settings, [True, False, False])[0] if wanted[0] else None
    work = weight.numel() * gradient.shape[0] * gradient.shape[2:].numel()
    parts = max(1, min(threads, work // _PART, len(seen)))
    pairs = list(zip(gradient.chunk(parts), seen.chunk(parts), strict=True))
    mask = [False, True, wanted[2]]
    waiting = [
        _helpers(threads - 1).submit(torch.no_grad()(_original), *pair, weight, *settings, mask) for pair in pairs[1:]
    ]
    _set_own_threads(1)
    try:
        found = [_original(*pairs[0], weight, *settings, mask)]
    finally:
        _set_own_threads(threads)
    found += [each.result() for each in waiting]
    return of_seen, _sum([each[1] for each in found]), _sum([each[2] for each in found])


def _sum(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of the parts of a gradient, rounded once."""
    first = parts[0]
    if first is None or len(parts) == 1:
        return first
    total = first.float() if first.dtype in (torch.float16, torch.bfloat16) else first
    for part in parts[1:]:
        assert part is not None
        total = total + part
    return total.to(first.dtype)
