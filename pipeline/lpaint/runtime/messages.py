"""Messages to the user on streams that may be broken: a closed terminal, a log on a full disk.

A message that cannot be written never stops the work that it reports.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO


def notify(text: str, write: Callable[..., Any] = print, stream: TextIO | None = None) -> None:
    """Write a line; do nothing where the stream cannot be written.

    Args:
        text: the line.
        write: ``print``, or ``tqdm.write`` where a progress bar may be shown.
        stream: the output stream; None = standard error.
    """
    target = stream or sys.stderr
    if target is None:
        return
    # ValueError: the stream is closed.
    with suppress(OSError, ValueError):
        write(text, file=target)
        target.flush()


def flush_streams() -> None:
    """Flush the standard streams before the process exits with a documented code.

    Python flushes them again at exit and changes the exit code if that fails.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            discard_output(stream)


def discard_output(stream: TextIO) -> None:
    """Redirect a stream to the null device, so that its buffered text is dropped."""
    # A stream without a file, or a closed one, has nothing to drop.
    with suppress(OSError, ValueError):
        number = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
