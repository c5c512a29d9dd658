"""What the command says on its standard streams, and what happens where they cannot be written."""

import os
import sys
from pathlib import Path

import typer

from lpaint.errors import ExitCode, StreamError
from lpaint.runtime.messages import discard_output


def prepare() -> None:
    """Make the standard streams safe to use.

    One that is closed leads nowhere: otherwise the next file that is opened would take its number, and what libraries
    print would go into a painting. Names that the terminal's encoding lacks are printed with escapes.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # it lasts as long as the process
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line on standard output.

    Raises:
        StreamError: it cannot be written.
        BrokenPipeError: its reader is gone, as ``head`` soon is; Typer then ends the command without a word.
    """
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StreamError(f"standard output: cannot be written ({error.strerror or error})") from None


def complain(text: str) -> None:
    """Print a line on standard error; where that cannot be written, there is nobody to tell."""
    try:
        typer.echo(text, err=True)
    except (OSError, ValueError):
        discard_output(sys.stderr)


def settle(code: int) -> int:
    """Flush both streams at the end, so that Python does not fail at it later; the exit code to end with.

    A reader that has gone, as ``head`` does, needs no sentence.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        discard_output(sys.stdout)
        if code == ExitCode.OK:
            if not isinstance(error, BrokenPipeError):
                complain(f"error: standard output: cannot be written ({error.strerror or error})")
            code = ExitCode.SOME_FAILED
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        discard_output(sys.stderr)
    return code
