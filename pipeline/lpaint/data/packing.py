"""Parallel decoding into one packed file; a crash at any moment loses only seconds of work.

Workers decode entry n into slot n of the file. Unreadable entries leave gaps. This process moves later images up to
fill them, in order, so that the good images so far are contiguous. Every few seconds the file is flushed to the disk,
and then the journal records the progress. After a crash later entries are decoded again, so the result equals that of
an uninterrupted run.
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

from lpaint.data.decode import describe_error
from lpaint.data.journal import Journal
from lpaint.data.progress import ProgressMeter
from lpaint.data.sources import Source
from lpaint.data.worker import Decoder, EntryResult, decode_in_worker, init_worker, wait_for_orphaned_workers, write_at
from lpaint.errors import DataError
from lpaint.runtime.messages import notify

if TYPE_CHECKING:
    from lpaint.runtime.params import Data

PACKED_FOLDER = "prepared"
_CHUNK = 32
_CHUNKS_AHEAD = 6
_COMMIT_EVERY = 5.0
# Increase it when the same source and parameters would give other bytes.
VERSION = 1


def worker_count(data: "Data") -> int:
    """Number of decoding processes for ``data.workers``; 0 = all cores."""
    return data.workers or os.cpu_count() or 1


def pack(data: "Data", source: Source, names: Sequence[str], folder: Path, progress: bool) -> Journal:
    """Pack ``names`` into ``folder``/prepared/images.npy, continuing an interrupted earlier call.

    Returns:
        The journal, with the size or the error of each entry.

    Raises:
        DataError: the disk is full or cannot be written, or a decoding process died.
    """
    try:
        return _Packer(data, source, names, folder).run(progress)
    except BrokenProcessPool:
        raise DataError(
            "data: a decoding process ended, perhaps because memory ran out; lower data.workers, then run it again to "
            "resume"
        ) from None
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({describe_error(error)}); fix it and run it again to resume"
        ) from None


def packed_bytes(size: int, count: int) -> int:
    """Size in bytes of images.npy with ``count`` images of ``size`` x ``size`` pixels."""
    return len(_header(size, count)) + count * size * size * 3


class _Packer:
    def __init__(self, data: "Data", source: Source, names: Sequence[str], folder: Path) -> None:
        self._source, self._names, self._workers = source, names, worker_count(data)
        self._path, self._lock_path = folder / PACKED_FOLDER / "images.npy", folder / "workers.lock"
        self._size, self._fit, self._max_bad_fraction = data.size, data.fit, data.max_bad_fraction
        self._start, self._image_bytes = len(_header(data.size, 0)), data.size * data.size * 3
        self._path.parent.mkdir(exist_ok=True)
        wait_for_orphaned_workers(self._lock_path)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        self._journal = self._open_journal(folder / "journal.jsonl")
        self._done, self._good = len(self._journal), self._journal.good_count
        self._pending: list[EntryResult] = []

    def run(self, progress: bool) -> Journal:
        if self._done:
            print(f"resumed at image {self._done}", flush=True)
        with (
            closing(ProgressMeter(len(self._names), self._done, progress)) as meter,
            ThreadPoolExecutor(1) as self._background,
            closing(self._decode_chunks(self._done)) as results,
        ):
            self._committing: Future[None] = self._background.submit(lambda: None)
            self._last_commit = time.monotonic()
            try:
                for chunk in results:
                    self._compact(chunk)
                    meter.advance(len(chunk))
                    if time.monotonic() - self._last_commit > _COMMIT_EVERY and self._committing.done():
                        self._commit()
            finally:
                self._commit()
                self._committing.result()
        self._finish_file()
        self._journal.close()
        return self._journal

    def _open_journal(self, path: Path) -> Journal:
        names = hashlib.sha256("\n".join(self._names).encode("utf-8", "surrogateescape")).hexdigest()
        key = {"version": VERSION, "names": names, "size": self._size, "fit": self._fit}
        journal = Journal(path, key)
        reason = self._restart_reason(journal)
        if reason:
            notify(f"{path.parent}: {reason}; starting over")
            journal.close()
            path.unlink()
            return Journal(path, key)
        return journal

    def _restart_reason(self, journal: Journal) -> str:
        """Why an earlier run's result cannot be used; empty if it can."""
        if journal.good_count and os.fstat(self._file).st_size < self._offset(journal.good_count):
            return "pixels are missing"
        count = len(self._names)
        if len(journal) == count and len(journal.reasons) > self._max_bad_fraction * count:
            # A drive may have been disconnected. If nothing has changed, the same error is raised again.
            return f"{len(journal.reasons):,} images could not be read"
        return ""

    def _decode_chunks(self, done: int) -> Generator[list[EntryResult], None, None]:
        """Results of the entries from index ``done`` on, in order, one chunk at a time."""
        tasks = (
            (self._source.loader(chunk), at, chunk)
            for at in range(done, len(self._names), _CHUNK)
            if (chunk := self._names[at : at + _CHUNK])
        )
        target = (self._path, self._start, self._size, self._fit)
        if self._workers == 1 or len(self._names) - done < 4 * _CHUNK:
            with closing(Decoder(*target)) as decoder:
                yield from (decoder.decode(*task) for task in tasks)
            return
        pool = ProcessPoolExecutor(self._workers, get_context("spawn"), init_worker, (self._lock_path, *target))
        try:
            # A bounded queue keeps the workers busy and limits the work that a crash loses.
            ahead: deque[Future[list[EntryResult]]] = deque()
            for task in tasks:
                ahead.append(pool.submit(decode_in_worker, *task))
                if len(ahead) > _CHUNKS_AHEAD * self._workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _compact(self, chunk: Sequence[EntryResult]) -> None:
        """Move a chunk's good images to the end of the earlier ones; later slots do not change."""
        for slot, entry in enumerate(chunk, self._done):
            if entry.ok:
                if self._good < slot:
                    write_at(
                        self._file,
                        os.pread(self._file, self._image_bytes, self._offset(slot)),
                        self._offset(self._good),
                    )
                self._good += 1
        self._done += len(chunk)
        self._pending += chunk

    def _commit(self) -> None:
        """Flush pending entries to the disk and then to the journal, while decoding continues."""
        self._committing.result()
        batch, self._pending = self._pending, []
        self._last_commit = time.monotonic()
        self._committing = self._background.submit(self._sync, batch)

    def _sync(self, batch: Sequence[EntryResult]) -> None:
        os.fsync(self._file)
        self._journal.commit(batch)

    def _finish_file(self) -> None:
        """Write the header with the number of images, and truncate the file after the last one."""
        os.ftruncate(self._file, self._offset(self._good))
        write_at(self._file, _header(self._size, self._good), 0)
        os.fsync(self._file)
        os.close(self._file)

    def _offset(self, slot: int) -> int:
        return self._start + slot * self._image_bytes


def _header(size: int, count: int) -> bytes:
    """Header of an .npy file. numpy pads it, so its length does not depend on ``count``."""
    stream = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(stream, shape)
    return stream.getvalue()
