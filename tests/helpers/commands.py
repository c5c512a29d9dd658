"""What a call of the command line left behind."""

import errno
import io
import signal
from pathlib import Path


class Outcome:
    """What one call of the command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def sentence(self) -> str:
        """The one error message; fails if there is none, or more than one, or a traceback."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in self.err, self.err
        return errors[0]


class DeadTerminal(io.StringIO):
    """A stream on a terminal that was closed."""

    def write(self, text: str, /) -> int:
        raise OSError(errno.EIO, "Input/output error")


def listing(folder: Path) -> set[str]:
    """The files in a folder and below it, by their names relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def heed_interrupts() -> None:
    """For a child process: SIGINT ends it also where these tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
