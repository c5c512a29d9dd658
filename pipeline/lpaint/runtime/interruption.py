"""Handling of Ctrl-C (SIGINT), SIGTERM and SIGHUP: stop cleanly, at once or at the next safe point."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from lpaint.runtime.messages import notify

# The signal of a closed terminal; Windows has none.
HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
_TERMINATION_SIGNALS = (signal.SIGTERM, *HANGUP)


@dataclass
class Interruption:
    """Whether a signal has asked the process to stop."""

    requested: bool = False


# State of the ``interrupt_on_signals`` that the process is in.
_interruption = Interruption()


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if a signal arrived within ``interrupt_on_signals``.

    The handler raises it too, but another exception can replace it: after SIGHUP the terminal is gone, and cleanup code
    that writes there fails. Code that catches exceptions and continues calls this function first.
    """
    if _interruption.requested:
        raise KeyboardInterrupt


@contextmanager
def defer_signals(message: str) -> Iterator[Interruption]:
    """Record the first SIGINT, SIGTERM or SIGHUP, so that the caller can stop at its next safe point.

    A second signal raises KeyboardInterrupt at once. Only the main thread receives signals; in other threads this does
    nothing.

    Args:
        message: what happens after the first signal, written to stderr; empty = print nothing.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def handler(signum: int, frame: FrameType | None) -> None:
        if interruption.requested:
            raise_interrupt(signum, frame)
        interruption.requested = True
        if message:
            # After SIGHUP there may be no terminal.
            notify(f"\n{message}; once more to stop at once")

    with _signal_handler(handler, signal.SIGINT, *_TERMINATION_SIGNALS):
        yield interruption


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, as for Ctrl-C, so that partial outputs are removed.

    During the cleanup further signals are ignored. If the cleanup raises another exception, KeyboardInterrupt is raised
    in its place. Outside the main thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(signum: int, frame: FrameType | None) -> None:
        for each in _TERMINATION_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        _interruption.requested = True
        raise_interrupt(signum, frame)

    _interruption.requested = False
    try:
        with _signal_handler(handler, *_TERMINATION_SIGNALS):
            yield
    except Exception:
        raise_if_interrupted()
        raise
    finally:
        _interruption.requested = False


@contextmanager
def _signal_handler(handler: Callable[[int, FrameType | None], None], *signals: signal.Signals) -> Iterator[None]:
    """Install a handler for signals and restore the earlier ones. A SIGHUP ignored by nohup stays ignored."""
    handled = [each for each in signals if each not in HANGUP or signal.getsignal(each) is not signal.SIG_IGN]
    previous = {each: signal.signal(each, handler) for each in handled}
    try:
        yield
    finally:
        for each, former in previous.items():
            # None: the earlier handler was not set from Python.
            signal.signal(each, former if former is not None else signal.SIG_DFL)


def raise_interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    """A signal handler that raises KeyboardInterrupt, as Ctrl-C does."""
    raise KeyboardInterrupt
