"""Lets a training share CPU cores with other processes, by changing how torch's threads wait for each other.

Two kinds of spinning make a training many times slower on a busy machine:

- oneDNN's weight gradient of a convolution has several barriers for each image, which spin until the last thread
  arrives. ``share_cores`` computes this gradient with one thread, or splits a large one over the batch, one
  thread for each part.
- libgomp's barriers spin for milliseconds. This is fastest while cores are free, because waking a thread takes longer
  than most waits. libgomp spins for microseconds only if it manages more threads than there are cores. ``share_cores``
  starts a monitor thread that adds sleeping threads while this process waits for cores.

The monitor changes how threads wait, never how many compute or what they compute.
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

# Variables with which the user chooses how threads wait; if one is set, the monitor is not started.
WAIT_POLICY_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# Least number of multiplications for a thread of its own: about a millisecond of work.
_MIN_WORK = 1 << 27
# Seconds between two measurements of the monitor.
_INTERVAL = 0.2
# The machine is busy above this waiting time for cores, in seconds per second, summed over all threads.
_BUSY = 0.2
# Measurements after which the throttle is switched off for a trial. With the throttle on, threads wait for cores
# even on a free machine. So only with the throttle off can the monitor see whether other processes compete.
_TRIAL_INTERVAL = 25


def share_cores(threads: int) -> None:
    """Make torch's ``threads`` CPU threads share cores with other processes. Does nothing without libgomp."""
    runtime = _libgomp()
    if runtime is None:
        return
    _replace_weight_gradient()
    if threads > 1 and not any(name in os.environ for name in WAIT_POLICY_VARIABLES):
        _start_monitor()


class Throttle:
    """Between ``on`` and ``off`` libgomp's barriers yield their core after microseconds."""

    def __init__(self) -> None:
        self._end: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def active(self) -> bool:
        """Whether the throttle is on."""
        return self._end is not None

    def on(self) -> None:
        """Add sleeping threads, so that libgomp manages more threads than there are cores.

        Does nothing if the system cannot start so many threads: libgomp would end the process.
        """
        if self._end is None and _can_start(_team_size()):
            self._end, ready = threading.Event(), threading.Event()
            self._thread = threading.Thread(target=_hold_team, args=(ready, self._end), daemon=True)
            self._thread.start()
            ready.wait()

    def off(self) -> None:
        """End the added threads: libgomp removes a team whose first thread ends."""
        if self._end is not None and self._thread is not None:
            self._end.set()
            self._thread.join()
            self._end = self._thread = None


def queueing_seconds() -> float:
    """Seconds that this process's other threads have waited for a core so far; 0 if the system does not report it."""
    total, current = 0, str(threading.get_native_id())
    for task in Path("/proc/self/task").glob("*/schedstat"):
        if task.parent.name == current:
            continue
        try:
            total += int(task.read_text(encoding="ascii").split()[1])
        except (OSError, IndexError, ValueError):
            continue  # the thread ended
    return total / 1e9


def _hold_team(ready: threading.Event, end: threading.Event) -> None:
    runtime = _libgomp()
    assert runtime is not None
    no_op = ctypes.cast(ctypes.CDLL(None).free, ctypes.c_void_p)  # free(NULL) does nothing
    runtime.GOMP_parallel(no_op, None, ctypes.c_uint(_team_size()), ctypes.c_uint(0))
    ready.set()
    end.wait()


def _team_size() -> int:
    """One more than the cores that this process may use, which is libgomp's count of cores."""
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
def _start_monitor() -> None:
    threading.Thread(target=_monitor, name="lpaint-monitor-cores", daemon=True).start()


def _monitor() -> None:
    throttle, measurements = Throttle(), 0
    queued, then = queueing_seconds(), time.monotonic()
    while True:
        time.sleep(_INTERVAL)
        queued_now, now = queueing_seconds(), time.monotonic()
        busy = queued_now - queued > _BUSY * (now - then)
        queued, then = queued_now, now
        measurements += 1
        if throttle.active:
            if measurements >= _TRIAL_INTERVAL:
                throttle.off()
        elif busy:
            throttle.on()
            measurements = 0


@cache
def _libgomp() -> ctypes.CDLL | None:
    """torch's OpenMP runtime if it is GNU's, else None."""
    try:
        runtime = ctypes.CDLL(None)
        _ = runtime.GOMP_parallel, runtime.omp_set_num_threads
    except (AttributeError, OSError, TypeError):
        return None
    # LLVM's runtime has these functions too.
    return None if hasattr(runtime, "__kmpc_fork_call") else runtime


@cache
def _replace_weight_gradient() -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL")
    library.impl("convolution_backward", _convolution_backward, "CPU")
    return library


@cache
def _gradient_pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "lpaint-gradient", initializer=_use_one_thread)


def _use_one_thread() -> None:
    torch.get_num_threads()  # torch initialises the calling thread once; later it would reset the count below
    _set_own_threads(1)


def _set_own_threads(threads: int) -> None:
    """Set the calling thread's OpenMP threads. ``torch.set_num_threads`` would rebuild other pools at each call."""
    runtime = _libgomp()
    assert runtime is not None
    runtime.omp_set_num_threads(ctypes.c_int(threads))


def _torch_backward(*arguments: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    # This way of calling it releases the GIL.
    key = torch._C.DispatchKey.CompositeExplicitAutograd
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None]
    gradients = torch.ops.aten.convolution_backward.default._op_dk(key, *arguments)
    return gradients


def _convolution_backward(
    gradient: Tensor,
    input: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """aten::convolution_backward: the input's gradient with all threads, the weight's and bias's without barriers."""
    settings = (bias_sizes, stride, padding, dilation, transposed, output_padding, groups)
    threads = torch.get_num_threads()
    if threads == 1 or not output_mask[1]:
        return _torch_backward(gradient, input, weight, *settings, output_mask)
    of_input = None
    if output_mask[0]:
        of_input = _torch_backward(gradient, input, weight, *settings, [True, False, False])[0]
    work = weight.numel() * gradient.shape[0] * gradient.shape[2:].numel()
    parts = max(1, min(threads, work // _MIN_WORK, len(input)))
    chunks = list(zip(gradient.chunk(parts), input.chunk(parts), strict=True))
    mask = [False, True, output_mask[2]]
    pool, backward = _gradient_pool(threads - 1), torch.no_grad()(_torch_backward)
    futures = [pool.submit(backward, *chunk, weight, *settings, mask) for chunk in chunks[1:]]
    _set_own_threads(1)
    try:
        results = [_torch_backward(*chunks[0], weight, *settings, mask)]
    finally:
        _set_own_threads(threads)
    results += [future.result() for future in futures]
    return of_input, _sum([result[1] for result in results]), _sum([result[2] for result in results])


def _sum(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The sum of the parts of a gradient, accumulated in float32 if they are of half precision."""
    first = parts[0]
    if first is None or len(parts) == 1:
        return first
    total = first.float() if first.dtype in (torch.float16, torch.bfloat16) else first
    for part in parts[1:]:
        assert part is not None
        total = total + part
    return total.to(first.dtype)
