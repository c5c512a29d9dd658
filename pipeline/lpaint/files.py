"""Outputs appear whole or not at all: written under a temporary name beside the target, then renamed."""

import errno
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# `.lpaint-PROCESS-TOKEN.partial.SUFFIX`
_PARTIAL = re.compile(r"\.lpaint-\d+-[0-9a-f]+\.partial(?:\..*)?", re.DOTALL)
# Earlier versions wrote `.STEM.PROCESS.partial.SUFFIX`. Files of users can have such names, too.
_EARLIER_PARTIAL = re.compile(r"\..+\.\d+\.partial(?:\..*)?", re.DOTALL)
# Writers choose their format by the suffix; a longer one than this is no format's.
_LONGEST_SUFFIX = 32
_DAY = 86400.0
# Windows locks ranges of bytes. These lie beyond the end of every lock file, so that others can read the file.
_LOCK_START, _LOCK_LENGTH = 1 << 30, 1 << 30


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path with ``path``'s suffix; on success it is flushed to disk and renamed to ``path``.

    The temporary name is short whatever ``path`` is called. The file is there from the beginning, empty, and locked
    (``lock_file``) while it is written, so that ``sweep`` can tell it from what a killed process left.

    On any exception, ``KeyboardInterrupt`` included, the temporary file is removed and ``path`` is left as it was.

    Raises:
        FileNotFoundError: nothing was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.suffix))
    try:
        with temporary.open("xb+") as handle:
            # Some network disks have no locks; there the file's age protects it.
            with suppress(OSError):
                lock_file(handle, wait=False)
            # An hour ago is a time that no writer leaves: it tells an empty file from one that nobody wrote.
            untouched = int(time.time() - 3600) * 10**9
            os.utime(temporary, ns=(untouched, untouched))
            yield temporary
            with temporary.open("rb+") as stream:
                if os.fstat(stream.fileno()).st_mtime_ns == untouched:
                    raise FileNotFoundError(errno.ENOENT, "nothing was written", str(path))
                os.fsync(stream.fileno())
        # Windows renames and removes closed files only.
        temporary.replace(path)
        _flush_names(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_partial(path: Path) -> bool:
    """Whether a file's name is one that ``replacing`` gives, or earlier gave, to a file that is being written."""
    return _is_ours(path.name, earlier=True)


def sweep(folder: Path, idle: float = _DAY, earlier: bool = False) -> None:
    """Remove what killed processes left of their writing in ``folder``, which need not be there.

    A file is removed only if no process of any machine has it locked, and nobody has written to it for ``idle``
    seconds. The number of the process is not asked: it may belong to another machine or container, or to a process
    that was started later.

    Args:
        folder: where to look; not the folders in it.
        idle: 0 only where the caller alone writes in ``folder``.
        earlier: remove also what earlier versions of lpaint left. True only for folders that are lpaint's own: their
            names for it fit files of users, such as ``.film.2024.partial.mkv``.
    """
    found: list[Path] = []
    with suppress(OSError):
        found += folder.glob(".*.partial*")
    for path in found:
        # Where it is locked, gone, or not ours to open, it stays.
        with suppress(OSError):
            if not _is_ours(path.name, earlier) or path.is_symlink() or not path.is_file():
                continue
            with path.open("rb+") as stream:
                if idle and time.time() - os.fstat(stream.fileno()).st_mtime < idle:
                    continue
                if not lock_file(stream, wait=False):
                    continue
            path.unlink(missing_ok=True)


def lock_file(file: IO[Any], wait: bool = True, shared: bool = False) -> bool:
    """Lock an open file against other processes until it is closed, or this process ends in whatever way.

    Args:
        file: the open file; its content stays readable for everybody.
        wait: whether to wait for other holders.
        shared: whether several processes may hold the lock in this way; nobody else can lock it otherwise meanwhile.

    Returns:
        Whether the file is locked now; False only without ``wait``.

    Raises:
        OSError: the disk has no locks.
    """
    if sys.platform == "win32":
        return _lock_bytes(file, wait, shared)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if sys.platform == "win32":

    def _lock_bytes(file: IO[Any], wait: bool, shared: bool) -> bool:
        """Lock one byte of the range, that of this process, for a shared lock, and all of it for an exclusive one."""
        handle = file.fileno()
        place = os.lseek(handle, 0, os.SEEK_CUR)
        start, length = (_LOCK_START + os.getpid() % _LOCK_LENGTH, 1) if shared else (_LOCK_START, _LOCK_LENGTH)
        try:
            while True:
                os.lseek(handle, start, os.SEEK_SET)
                with suppress(PermissionError):
                    msvcrt.locking(handle, msvcrt.LK_NBLCK, length)
                    return True
                if not wait:
                    return False
                time.sleep(0.1)
        finally:
            os.lseek(handle, place, os.SEEK_SET)


def _is_ours(name: str, earlier: bool) -> bool:
    return bool(_PARTIAL.fullmatch(name) or (earlier and _EARLIER_PARTIAL.fullmatch(name)))


def _temporary_name(suffix: str) -> str:
    kept = suffix if len(os.fsencode(suffix)) <= _LONGEST_SUFFIX else ""
    return f".lpaint-{os.getpid()}-{secrets.token_hex(4)}.partial{kept}"


def _flush_names(folder: Path) -> None:
    """Flush renames in ``folder`` to disk, where the system lets a program open a folder; Windows does not."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_running(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON, atomically. Raises ValueError on NaN or infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
