"""Errors that a user can cause, each with the exit code that the command line documents.

A message is one sentence that says what was wrong, where, and what to do about it. Anything that is not an
``LpaintError`` is a bug and keeps its traceback.
"""

import errno
from enum import IntEnum

# Of a full, read-only or failing disk, of files that may not be touched and of names that no disk takes: the machine's
# or the input's fault, not the program's.
DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTDIR,
}


class ExitCode(IntEnum):
    """Exit codes of the ``lpaint`` command and of the stages."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    MODEL = 3
    DEVICE = 4
    DATA = 5
    UNFORESEEN = 70
    INTERRUPTED = 130


class LpaintError(Exception):
    """Base of every error that is the input's fault rather than the program's."""

    exit_code: ExitCode = ExitCode.SOME_FAILED


class ImageError(LpaintError):
    """An input picture cannot be read or an output picture cannot be written."""

    exit_code = ExitCode.SOME_FAILED


class StreamError(LpaintError):
    """Standard output cannot be written, for want of room say."""

    exit_code = ExitCode.SOME_FAILED


class ParamsError(LpaintError):
    """``params.yaml``, a profile or a command-line value is wrong."""

    exit_code = ExitCode.USAGE


class ModelError(LpaintError):
    """A model file is missing, damaged, or not one that lpaint exported."""

    exit_code = ExitCode.MODEL


class DeviceError(LpaintError):
    """The device asked for is not there."""

    exit_code = ExitCode.DEVICE


class DataError(LpaintError):
    """A data set is missing, empty, or too damaged to use."""

    exit_code = ExitCode.DATA


class TrainingError(LpaintError):
    """Training cannot go on, e.g. because a loss is no longer finite."""

    exit_code = ExitCode.SOME_FAILED


def one_line(error: object, limit: int = 300) -> str:
    """An exception's text on one line of at most ``limit`` characters; the name of its type if it has no text."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


class MisfitError(Exception):
    """A saved state does not fit this code; the text names the first difference. See ``lpaint.training.restore``."""
