"""Decoding, in this process or in worker processes. Imports little: every worker loads it."""

import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import IO, NamedTuple

from lpaint.data.decode import explain, square
from lpaint.data.sources.base import Loader
from lpaint.files import lock_file
from lpaint.runtime.interruption import HANGUP


class Decoded(NamedTuple):
    """What became of one entry: its size in pixels, or the reason why it cannot be read."""

    width: int
    height: int
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether its pixels are there."""
        return not self.reason


class Worker:
    """Decodes entries and writes their pixels into the packed file ``path``, at ``start`` + slot * bytes a picture.

    Written, not mapped: pages of a mapped file count as this process's memory, all gigabytes of them.
    """

    def __init__(self, path: Path, start: int, size: int, fit: str) -> None:
        self._file = os.open(path, os.O_WRONLY)
        self._start, self._size, self._fit = start, size, fit

    def work(self, loader: Loader, first: int, names: Sequence[str]) -> list[Decoded]:
        """Decode ``names`` into the slots from ``first`` on.

        Raises:
            OSError: the pixels cannot be written.
        """
        return [self._one(loader, first + rank, name) for rank, name in enumerate(names)]

    def close(self) -> None:
        """Close the packed file."""
        os.close(self._file)

    def _one(self, loader: Loader, slot: int, name: str) -> Decoded:
        try:
            picture = loader.load(name, self._size)
            pixels = square(picture.image, self._size, self._fit).tobytes()
        except Exception as error:
            # Decoders raise whatever a damaged file provokes; one bad image must not end the run.
            return Decoded(0, 0, explain(error))
        write_at(self._file, pixels, self._start + slot * len(pixels))
        return Decoded(picture.width, picture.height)


def write_at(file: int, content: bytes, place: int) -> None:
    """Write all of ``content`` at ``place``.

    Raises:
        OSError: the disk is full, for one.
    """
    left = memoryview(content)
    while left:
        written = os.pwrite(file, left, place)
        left, place = left[written:], place + written


# What a worker process works with; it comes once, not with every task.
_employment: list[Worker] = []
# Open for as long as the process lives.
_guards: list[IO[bytes]] = []


def employ(guard: Path, path: Path, start: int, size: int, fit: str) -> None:
    """Set up a worker process that ends when its parent does, however that ends.

    It shares a lock on the file ``guard``, by which a later run knows whether an orphan may still be writing.
    """
    # Ctrl-C and a closed terminal's SIGHUP go to the whole group; the parent ends its workers in order.
    for number in (signal.SIGINT, *HANGUP):
        signal.signal(number, signal.SIG_IGN)
    _guards.append(guard.open("rb"))
    lock_file(_guards[-1], shared=True)
    parent = parent_process()
    if parent is None or not parent.is_alive():
        os._exit(1)
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _employment.append(Worker(path, start, size, fit))


def wait_for_orphans(guard: Path) -> None:
    """Return once no worker of an earlier run is left."""
    with guard.open("w") as lock:
        lock_file(lock)


def work(loader: Loader, first: int, names: Sequence[str]) -> list[Decoded]:
    """``Worker.work`` in a worker process."""
    return _employment[-1].work(loader, first, names)


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
