"""Ctrl-C, SIGTERM and SIGHUP: an orderly end, at once or at a good moment."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from lpaint.runtime.messages import notify

# A closed terminal's signal; Windows has none.
HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
# What asks a process to end: the system, and a terminal that is closed.
_ENDING = (signal.SIGTERM, *HANGUP)


@dataclass
class Interruption:
    """Whether somebody asked for the end."""

    requested: bool = False


# Of the ``orderly_end`` that the process is in.
_end = Interruption()


def heed() -> None:
    """Raise KeyboardInterrupt if a signal has asked for the end within ``orderly_end``.

    The handler raises it, too, but another exception can replace that one on its way: after SIGHUP the terminal is
    gone, and what is to be written there while the work unwinds fails. Code that catches exceptions and goes on calls
    this first.
    """
    if _end.requested:
        raise KeyboardInterrupt


@contextmanager
def deferred(promise: str) -> Iterator[Interruption]:
    """Within, a first SIGINT, SIGTERM or SIGHUP is only noted, for the work to end at its next good moment.

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
            # After SIGHUP there may be no terminal.
            notify(f"\n{promise}; once more to stop at once")

    with _handling(note, signal.SIGINT, *_ENDING):
        yield interruption


@contextmanager
def orderly_end() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does: what is half-written is removed.

    While that happens, further ones are ignored, and an exception that replaces the KeyboardInterrupt is replaced by it
    in turn. In another thread than the main one, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, frame: FrameType | None) -> None:
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        _end.requested = True
        interrupt(signum, frame)

    _end.requested = False
    try:
        with _handling(end, *_ENDING):
            yield
    except Exception:
        heed()
        raise
    finally:
        _end.requested = False


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Handle signals, and restore their handlers. A SIGHUP that is ignored stays so: it is nohup's."""
    heeded = [each for each in signals if each not in HANGUP or signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, handler) for each in heeded}
    try:
        yield
    finally:
        for each, former in before.items():
            # None: it was not set from Python.
            signal.signal(each, former if former is not None else signal.SIG_DFL)


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """A signal's handler that unwinds like Ctrl-C."""
    raise KeyboardInterrupt
