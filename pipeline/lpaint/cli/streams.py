"""Standard output and error of the command, and what happens when they cannot be written."""

import os
import sys
from pathlib import Path

import typer

from lpaint.errors import ExitCode, StreamError
from lpaint.runtime.messages import discard_output


def prepare() -> None:
    """Make the standard streams safe to use.

    A closed stream is opened on the null device. Otherwise the next opened file would take its number, and output of
    libraries would go into a painting. Characters that the terminal's encoding lacks are printed as escapes.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # stays open until the process ends
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def print_stdout(text: str) -> None:
    """Print a line on standard output.

    Raises:
        StreamError: standard output cannot be written.
        BrokenPipeError: the reader, such as ``head``, has closed the pipe. Typer then ends the command silently.
    """
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StreamError(f"standard output: cannot be written ({error.strerror or error})") from None


def print_stderr(text: str) -> None:
    """Print a line on standard error. If it cannot be written, discard the line."""
    try:
        typer.echo(text, err=True)
    except (OSError, ValueError):
        discard_output(sys.stderr)


def flush_at_exit(code: int) -> int:
    """Flush both streams, so that Python does not fail at it later. Returns the exit code.

    A closed pipe changes the exit code but prints no error.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        discard_output(sys.stdout)
        if code == ExitCode.OK:
            if not isinstance(error, BrokenPipeError):
                print_stderr(f"error: standard output: cannot be written ({error.strerror or error})")
            code = ExitCode.SOME_FAILED
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        discard_output(sys.stderr)
    return code
