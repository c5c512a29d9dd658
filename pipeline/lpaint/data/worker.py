"""Decoding in this process or in worker processes. Imports little, because every worker loads it."""

import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import IO, NamedTuple

from lpaint.data.decode import describe_error, fit_to_square
from lpaint.data.sources.base import Loader
from lpaint.files import lock_file
from lpaint.runtime.interruption import HANGUP


class EntryResult(NamedTuple):
    """Result of one entry: its size in pixels, or the reason why it cannot be read."""

    width: int
    height: int
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether its pixels are written."""
        return not self.reason


class Decoder:
    """Decodes entries and writes their pixels to the packed file ``path``, at ``start`` + slot * bytes per image.

    Written, not mapped: pages of a mapped file count as this process's memory, all gigabytes of them.
    """

    def __init__(self, path: Path, start: int, size: int, fit: str) -> None:
        self._file = os.open(path, os.O_WRONLY)
        self._start, self._size, self._fit = start, size, fit

    def decode(self, loader: Loader, first: int, names: Sequence[str]) -> list[EntryResult]:
        """Decode ``names`` into the slots from ``first`` on.

        Raises:
            OSError: the pixels cannot be written.
        """
        return [self._decode_entry(loader, first + at, name) for at, name in enumerate(names)]

    def close(self) -> None:
        """Close the packed file."""
        os.close(self._file)

    def _decode_entry(self, loader: Loader, slot: int, name: str) -> EntryResult:
        try:
            picture = loader.load(name, self._size)
            pixels = fit_to_square(picture.image, self._size, self._fit).tobytes()
        except Exception as error:
            # Decoders raise exceptions of many types on damaged files; one bad image must not stop the run.
            return EntryResult(0, 0, describe_error(error))
        write_at(self._file, pixels, self._start + slot * len(pixels))
        return EntryResult(picture.width, picture.height)


def write_at(file: int, content: bytes, offset: int) -> None:
    """Write all of ``content`` at ``offset``.

    Raises:
        OSError: the disk is full, for one.
    """
    left = memoryview(content)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


# The decoder of a worker process, made once and not for each task.
_workers: list[Decoder] = []
# Open for as long as the process lives.
_lock_files: list[IO[bytes]] = []


def init_worker(lock_path: Path, path: Path, start: int, size: int, fit: str) -> None:
    """Set up a worker process that ends with its parent, even if the parent is killed.

    The worker holds a shared lock on ``lock_path``, so that a later run can wait for orphaned workers.
    """
    # Ctrl-C and a closed terminal's SIGHUP go to the whole group; the parent ends its workers in order.
    for number in (signal.SIGINT, *HANGUP):
        signal.signal(number, signal.SIG_IGN)
    _lock_files.append(lock_path.open("rb"))
    lock_file(_lock_files[-1], shared=True)
    parent = parent_process()
    if parent is None or not parent.is_alive():
        os._exit(1)
    threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()
    _workers.append(Decoder(path, start, size, fit))


def wait_for_orphaned_workers(lock_path: Path) -> None:
    """Return once no worker of an earlier run is left."""
    with lock_path.open("w") as lock:
        lock_file(lock)


def decode_in_worker(loader: Loader, first: int, names: Sequence[str]) -> list[EntryResult]:
    """``Decoder.decode`` in a worker process."""
    return _workers[-1].decode(loader, first, names)


def _exit_with_parent(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
