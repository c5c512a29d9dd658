"""Atomic writes: a file is written under a temporary name beside its target, then renamed."""

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

# `.lpaint-PID-TOKEN.partial.SUFFIX`
_PARTIAL = re.compile(r"\.lpaint-\d+-[0-9a-f]+\.partial(?:\..*)?", re.DOTALL)
# Earlier versions wrote `.STEM.PID.partial.SUFFIX`. Users' files can have such names too.
_LEGACY_PARTIAL = re.compile(r"\..+\.\d+\.partial(?:\..*)?", re.DOTALL)
# The temporary name keeps the suffix, because writers select their format by it. No format has a longer one.
_MAX_SUFFIX_BYTES = 32
_DAY = 86400.0
# Windows locks ranges of bytes. These lie beyond the end of every lock file, so that others can read the file.
_LOCK_START, _LOCK_LENGTH = 1 << 30, 1 << 30


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path with ``path``'s suffix; on success it is flushed to disk and renamed to ``path``.

    The temporary file is created empty and stays locked (``lock_file``) while it is written.
    ``remove_stale_partials`` tells it by the lock from a file that a killed process left.

    On any exception, including ``KeyboardInterrupt``, the temporary file is removed and ``path`` does not change.

    Raises:
        FileNotFoundError: nothing was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name(path.suffix))
    try:
        with temporary.open("xb+") as handle:
            # Some network disks have no locks. There the file's age protects it.
            with suppress(OSError):
                lock_file(handle, wait=False)
            # No writer leaves a modification time of an hour ago, so an unchanged one means that nothing was written.
            untouched = int(time.time() - 3600) * 10**9
            os.utime(temporary, ns=(untouched, untouched))
            yield temporary
            with temporary.open("rb+") as stream:
                if os.fstat(stream.fileno()).st_mtime_ns == untouched:
                    raise FileNotFoundError(errno.ENOENT, "nothing was written", str(path))
                os.fsync(stream.fileno())
        # Windows renames and removes closed files only.
        temporary.replace(path)
        _fsync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_partial(path: Path) -> bool:
    """Whether a file has the temporary name of a write by this or an earlier version of lpaint."""
    return _is_partial_name(path.name, include_legacy=True)


def remove_stale_partials(folder: Path, min_age: float = _DAY, include_legacy: bool = False) -> None:
    """Remove the temporary files that killed processes left in ``folder``. A missing folder is no error.

    A file is removed if no process on any machine has locked it and nobody has written to it for ``min_age`` seconds.
    The process id in the name is not used: it may belong to another machine, a container or a later process.

    Args:
        folder: the folder to clean, without its subfolders.
        min_age: seconds. Pass 0 only where no other process writes in ``folder``.
        include_legacy: also remove what earlier versions of lpaint left. Pass True only for lpaint's own folders: those
            names also match users' files, such as ``.film.2024.partial.mkv``.
    """
    found: list[Path] = []
    with suppress(OSError):
        found += folder.glob(".*.partial*")
    for path in found:
        # OSError: the file is locked, gone, or may not be opened.
        with suppress(OSError):
            if not _is_partial_name(path.name, include_legacy) or path.is_symlink() or not path.is_file():
                continue
            with path.open("rb+") as stream:
                if min_age and time.time() - os.fstat(stream.fileno()).st_mtime < min_age:
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


def _is_partial_name(name: str, include_legacy: bool) -> bool:
    return bool(_PARTIAL.fullmatch(name) or (include_legacy and _LEGACY_PARTIAL.fullmatch(name)))


def _temporary_name(suffix: str) -> str:
    suffix = suffix if len(os.fsencode(suffix)) <= _MAX_SUFFIX_BYTES else ""
    return f".lpaint-{os.getpid()}-{secrets.token_hex(4)}.partial{suffix}"


def _fsync_folder(folder: Path) -> None:
    """Flush renames in ``folder`` to disk, where the system opens folders at all (Windows does not)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_running(process: int) -> bool:
    """Whether this machine has a process with the id ``process``."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON, atomically. Raises ValueError on NaN or infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
