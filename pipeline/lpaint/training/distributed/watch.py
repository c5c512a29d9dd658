"""A look-out for lost ranks, for those that talk through NCCL.

gloo raises where another rank is gone. NCCL does not: its kernels wait on the GPU, and the process waits for the GPU,
where neither an exception nor a signal reaches it. After the timeout torch's own watchdog would abort the process,
without a sentence. So that watchdog is told to note errors only, and a thread looks for them, for ranks of this machine
that are gone, and for the code with which another rank ended. Then it aborts NCCL's kernels, which frees the main
thread to end as it does with gloo. If that one does not come back, the thread says the sentence and ends the process.
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

# Seconds between looks, and those that the main thread has to come back: it may be closing its run. torchrun gives 30.
_BETWEEN = 1.0
_GRACE = 25.0
# 0: errors are noted, the process is not aborted. The wait must not block, or torch starts no watchdog at all.
NCCL_SETTINGS = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0", "TORCH_NCCL_BLOCKING_WAIT": "0"}


class Watch(threading.Thread):
    """Looks for lost ranks until ``stop``.

    Args:
        look: a sentence on a rank that is lost; "" if another rank has told of its end; None if all is well.
        claim: called with this rank's exit code where it ends the process; the code to end with, and whether to speak.

    Attributes:
        found: what ``look`` found; None as long as all is well.
    """

    def __init__(self, look: Callable[[], str | None], claim: Callable[[int], tuple[int, bool]]) -> None:
        super().__init__(name="lpaint-ranks", daemon=True)
        self.found: str | None = None
        self._look, self._claim = look, claim
        self._ended = threading.Event()

    def stop(self) -> None:
        """The main thread ends by itself."""
        self._ended.set()

    def run(self) -> None:
        """See the class."""
        while self.found is None:
            if self._ended.wait(_BETWEEN):
                return
            self.found = self._look()
        with suppress(Exception):
            # Not torch's _abort_process_group: without its group this rank would take itself for the only one.
            nccl().abort()
        if not self._ended.wait(_GRACE):
            self._leave(self.found)

    def _leave(self, sentence: str) -> None:
        try:
            code, speaks = self._claim(ExitCode.SOME_FAILED)
        except RuntimeError:
            # The store is gone, and torchrun with it.
            code, speaks = ExitCode.SOME_FAILED, True
        if speaks and sentence:
            notify(f"error: {sentence}")
        os._exit(code)


def nccl() -> Any:
    """The part of the process group that talks between GPUs."""
    return dist.distributed_c10d._get_default_group()._get_backend(torch.device("cuda"))


def nccl_error() -> str:
    """What NCCL's watchdog noted, in a word or two; empty if nothing."""
    try:
        error = nccl().get_error().name
    except (RuntimeError, ValueError, AttributeError):
        # There is no NCCL, or no group any more, or torch does not tell.
        return ""
    return "" if error == "SUCCESS" else error.lower().replace("_", " ")
