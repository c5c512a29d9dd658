"""Errors that a user can cause, each with the exit code that the command line documents.

A message is one sentence: where, what is wrong, and what to do. Any other exception is a bug and keeps its traceback.
"""

import errno
from enum import IntEnum

# The disk is full, read-only or failing, a file is not accessible, or a file name is invalid. These are not bugs.
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
    UNEXPECTED = 70
    INTERRUPTED = 130


class LpaintError(Exception):
    """Base of all errors that the input or the machine causes, not a bug."""

    exit_code: ExitCode = ExitCode.SOME_FAILED


class ImageError(LpaintError):
    """An input image cannot be read or an output image cannot be written."""

    exit_code = ExitCode.SOME_FAILED


class StreamError(LpaintError):
    """Standard output cannot be written, for example because the disk is full."""

    exit_code = ExitCode.SOME_FAILED


class ParamsError(LpaintError):
    """``params.yaml``, a profile or a command-line value is wrong."""

    exit_code = ExitCode.USAGE


class ModelError(LpaintError):
    """A model file is missing, damaged, or not one that lpaint exported."""

    exit_code = ExitCode.MODEL


class DeviceError(LpaintError):
    """The requested device is not available."""

    exit_code = ExitCode.DEVICE


class DataError(LpaintError):
    """A data set is missing, empty, or too damaged to use."""

    exit_code = ExitCode.DATA


class TrainingError(LpaintError):
    """Training cannot continue, for example because a loss is not finite."""

    exit_code = ExitCode.SOME_FAILED


def one_line(error: object, limit: int = 300) -> str:
    """An exception's text on one line of at most ``limit`` characters; the name of its type if it has no text."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


class MisfitError(Exception):
    """A saved state does not fit this code; the text names the first difference (``lpaint.training.restore``)."""
