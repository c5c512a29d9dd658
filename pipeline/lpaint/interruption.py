"""Ctrl-C and SIGTERM that wait for a good moment."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interruption:
    """Whether somebody asked for the end."""

    requested: bool = False


@contextmanager
def deferred(promise: str) -> Iterator[Interruption]:
    """Within, a first SIGINT or SIGTERM is only noted, for the work to end at its next good moment.

    A second one raises KeyboardInterrupt at once. Signals reach the main thread alone; in another, nothing is deferred.

    Args:
        promise: what happens after the first one, for people; empty = they are told by another process.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def note(signum: int, frame: FrameType | None) -> None:
        if interruption.requested:
            interrupt(signum, frame)
        interruption.requested = True
        if promise:
            print(f"\n{promise}; once more to stop at once", file=sys.stderr, flush=True)

    before = {each: signal.signal(each, note) for each in _SIGNALS}
    try:
        yield interruption
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """A signal's handler that unwinds like Ctrl-C."""
    raise KeyboardInterrupt
