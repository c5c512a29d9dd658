"""Lines for people, on streams that may be gone: a terminal that was closed, a full disk behind a log.

They must never end the work that they tell of.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO


def notify(text: str, write: Callable[..., Any] = print, stream: TextIO | None = None) -> None:
    """Write a line; where that is not possible, there is nobody to tell.

    Args:
        text: the line.
        write: ``print``, or ``tqdm.write`` where a progress bar may be shown.
        stream: where to; None = standard error.
    """
    target = stream or sys.stderr
    if target is None:
        return
    # ValueError: it is closed.
    with suppress(OSError, ValueError):
        write(text, file=target)
        target.flush()


def flush_streams() -> None:
    """Flush the standard streams before the process ends with a code that it must keep.

    Python flushes them again at its end, and where that fails the exit code is another.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            discard_output(stream)


def discard_output(stream: TextIO) -> None:
    """Send what a stream still holds to nowhere."""
    # A stream that has no file, or is closed, holds nothing.
    with suppress(OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
