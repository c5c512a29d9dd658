"""A watchdog thread that finds lost ranks in trainings that use NCCL.

gloo raises an exception where another rank is gone. NCCL does not: its kernels wait on the GPU, and the main thread
waits for the GPU, where neither exceptions nor signals reach it. After the timeout torch's own watchdog aborts the
process without a clear message.

``NCCL_SETTINGS`` therefore make torch's watchdog record errors only. Once a second this watchdog checks for recorded
errors, for ranks of this machine that are gone, and for the exit code of a rank that ended. If it finds any, it aborts
NCCL's kernels. That frees the main thread, which then ends as it does with gloo. If the main thread does not end in
time, the watchdog prints the message and ends the process.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
import torch.distributed as dist

from lpaint.errors import ExitCode
from lpaint.runtime.messages import notify

# Seconds between checks.
_INTERVAL = 1.0
# Seconds for the main thread to end, e.g. to close its tracked run. torchrun kills after 30.
_GRACE = 25.0
# 0: record errors, do not abort. Blocking wait must be off: with it torch starts no watchdog at all.
NCCL_SETTINGS = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0", "TORCH_NCCL_BLOCKING_WAIT": "0"}


class Watchdog(threading.Thread):
    """Looks for lost ranks until ``stop``.

    Args:
        check: returns a message on a lost rank, "" if another rank reports its own end, None if all is well.
        register_exit: records this rank's exit code unless another rank was first. Returns the recorded code, and
            whether it is this rank's, which then prints the message.

    Attributes:
        problem: what ``check`` found; None as long as all is well.
    """

    def __init__(self, check: Callable[[], str | None], register_exit: Callable[[int], tuple[int, bool]]) -> None:
        super().__init__(name="lpaint-ranks", daemon=True)
        self.problem: str | None = None
        self._check, self._register_exit = check, register_exit
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop checking: the main thread ends by itself."""
        self._stopped.set()

    def run(self) -> None:
        """Check once a second; after a problem abort NCCL, then end the process if the main thread does not."""
        while self.problem is None:
            if self._stopped.wait(_INTERVAL):
                return
            self.problem = self._check()
        with suppress(Exception):
            # torch's _abort_process_group would also remove the group, and this rank would see a world size of 1.
            nccl_backend().abort()
        if not self._stopped.wait(_GRACE):
            self._end_process(self.problem)

    def _end_process(self, message: str) -> None:
        try:
            code, reports = self._register_exit(ExitCode.SOME_FAILED)
        except RuntimeError:
            # The store is gone, so torchrun has ended.
            code, reports = ExitCode.SOME_FAILED, True
        if reports and message:
            notify(f"error: {message}")
        os._exit(code)


def nccl_backend() -> Any:
    """The part of the process group that communicates between GPUs."""
    return dist.distributed_c10d._get_default_group()._get_backend(torch.device("cuda"))


def nccl_error() -> str:
    """The error that NCCL's watchdog recorded, in a word or two; empty if there is none."""
    try:
        error = nccl_backend().get_error().name
    except (RuntimeError, ValueError, AttributeError):
        # No NCCL, no process group any more, or a torch without get_error.
        return ""
    return "" if error == "SUCCESS" else error.lower().replace("_", " ")
