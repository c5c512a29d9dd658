"""Decode in parallel into one packed file, so that a crash at any moment loses seconds of work and no more.

Entry n is decoded into slot n of the file; bad ones leave gaps, which this process closes in order, so that the good
ones so far lie together. Every few seconds the file is flushed to the disk, and only then the journal says how far it
is. What lies beyond is decoded again after a crash, from the source, so the result is that of an unbroken run.
"""

import hashlib
import io
import os
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lpaint.data.decode import explain
from lpaint.data.journal import Journal
from lpaint.data.progress import Meter
from lpaint.data.sources import Source
from lpaint.data.worker import Decoded, Worker, employ, wait_for_orphans, work, write_at
from lpaint.errors import DataError
from lpaint.runtime.messages import notify

if TYPE_CHECKING:
    from lpaint.runtime.params import Data

PACKED = "prepared"
_CHUNK = 32
_CHUNKS_AHEAD = 6
_COMMIT_EVERY = 5.0
# Raise it when the same source and parameters would be packed into other bytes.
VERSION = 1


def worker_count(data: "Data") -> int:
    """Decoding processes that ``data.workers`` asks for; 0 = all cores."""
    return data.workers or os.cpu_count() or 1


def pack(data: "Data", source: Source, names: Sequence[str], folder: Path, progress: bool) -> Journal:
    """Pack ``names`` into ``folder``/prepared/images.npy, going on where an earlier call for them was cut.

    Returns what became of each.

    Raises:
        DataError: the disk is full or cannot be written to, or a decoding process died.
    """
    try:
        return _Packing(data, source, names, folder).run(progress)
    except BrokenProcessPool:
        raise DataError(
            "data: a decoding process died, perhaps of too little memory; lower data.workers and run it again to go on"
        ) from None
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({explain(error)}); mend that and run it again to go on"
        ) from None


def packed_bytes(size: int, count: int) -> int:
    """Bytes of images.npy with ``count`` pictures of ``size`` pixels a side."""
    return len(_header(size, count)) + count * size * size * 3


class _Packing:
    def __init__(self, data: "Data", source: Source, names: Sequence[str], folder: Path) -> None:
        self._source, self._names, self._workers = source, names, worker_count(data)
        self._path, self._guard = folder / PACKED / "images.npy", folder / "workers.lock"
        self._size, self._fit, self._allowed = data.size, data.fit, data.max_bad_fraction
        self._start, self._row = len(_header(data.size, 0)), data.size * data.size * 3
        self._path.parent.mkdir(exist_ok=True)
        wait_for_orphans(self._guard)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        self._journal = self._open_journal(folder / "journal.jsonl")
        self._done, self._good = len(self._journal), self._journal.good
        self._pending: list[Decoded] = []

    def run(self, progress: bool) -> Journal:
        if self._done:
            print(f"resumed at image {self._done}", flush=True)
        with (
            closing(Meter(len(self._names), self._done, progress)) as meter,
            ThreadPoolExecutor(1) as self._background,
            closing(self._results(self._done)) as results,
        ):
            self._committing: Future[None] = self._background.submit(lambda: None)
            self._committed = time.monotonic()
            try:
                for chunk in results:
                    self._close_gaps(chunk)
                    meter.advance(len(chunk))
                    if time.monotonic() - self._committed > _COMMIT_EVERY and self._committing.done():
                        self._commit()
            finally:
                self._commit()
                self._committing.result()
        self._seal()
        self._journal.close()
        return self._journal

    def _open_journal(self, path: Path) -> Journal:
        names = hashlib.sha256("\n".join(self._names).encode("utf-8", "surrogateescape")).hexdigest()
        key = {"version": VERSION, "names": names, "size": self._size, "fit": self._fit}
        journal = Journal(path, key)
        why = self._doubt(journal)
        if why:
            notify(f"{path.parent}: {why}; starting over")
            journal.close()
            path.unlink()
            return Journal(path, key)
        return journal

    def _doubt(self, journal: Journal) -> str:
        """Why an earlier run's work cannot be used; empty if it can."""
        if journal.good and os.fstat(self._file).st_size < self._place(journal.good):
            return "pixels are missing"
        count = len(self._names)
        if len(journal) == count and len(journal.reasons) > self._allowed * count:
            # A drive may have been away; if nothing was mended, the error is the same again.
            return f"{len(journal.reasons):,} images could not be read"
        return ""

    def _results(self, done: int) -> Generator[list[Decoded], None, None]:
        """What became of the entries from ``done`` on, in order, a chunk at a time."""
        tasks = (
            (self._source.loader(chunk), at, chunk)
            for at in range(done, len(self._names), _CHUNK)
            if (chunk := self._names[at : at + _CHUNK])
        )
        target = (self._path, self._start, self._size, self._fit)
        if self._workers == 1 or len(self._names) - done < 4 * _CHUNK:
            with closing(Worker(*target)) as worker:
                yield from (worker.work(*task) for task in tasks)
            return
        pool = ProcessPoolExecutor(self._workers, get_context("spawn"), employ, (self._guard, *target))
        try:
            # Some work ahead: nobody waits, and what was decoded in vain after a crash stays bounded.
            ahead: deque[Future[list[Decoded]]] = deque()
            for task in tasks:
                ahead.append(pool.submit(work, *task))
                if len(ahead) > _CHUNKS_AHEAD * self._workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _close_gaps(self, chunk: Sequence[Decoded]) -> None:
        """Move a chunk's good pictures up to those before it. Nothing beyond the chunk is touched."""
        for slot, entry in enumerate(chunk, self._done):
            if entry.ok:
                if self._good < slot:
                    write_at(self._file, os.pread(self._file, self._row, self._place(slot)), self._place(self._good))
                self._good += 1
        self._done += len(chunk)
        self._pending += chunk

    def _commit(self) -> None:
        """Flush what is pending to the disk and then to the journal, while decoding goes on."""
        self._committing.result()
        batch, self._pending = self._pending, []
        self._committed = time.monotonic()
        self._committing = self._background.submit(self._make_durable, batch)

    def _make_durable(self, batch: Sequence[Decoded]) -> None:
        os.fsync(self._file)
        self._journal.commit(batch)

    def _seal(self) -> None:
        """Write the header, which says how many pictures there are, and cut off what lies behind them."""
        os.ftruncate(self._file, self._place(self._good))
        write_at(self._file, _header(self._size, self._good), 0)
        os.fsync(self._file)
        os.close(self._file)

    def _place(self, slot: int) -> int:
        return self._start + slot * self._row


def _header(size: int, count: int) -> bytes:
    """What begins an .npy file; numpy leaves room in it, so that its length does not depend on ``count``."""
    stream = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(stream, shape)
    return stream.getvalue()
