"""Folders for what an interrupted stage needs to go on: one a configuration, outside DVC's outs, locked while in use.

DVC deletes a stage's outs before it runs, and would carry a persistent one into runs with *other* parameters. So what a
killed stage needs to go on lies under ``.lpaint/resume/<stage>-<digest>/`` in the repository's root; the digest is of
everything that decides what the stage computes.
"""

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpaint.paths import resume_directory


@contextmanager
def resume_folder(stage: str, key: dict[str, Any], work: str = "training") -> Iterator[Path]:
    """The folder for ``stage`` under a configuration ``key`` (JSON values), locked while in use.

    Where another process is doing the same ``work``, as jobs of a grid that share a stage do, and a stage whose DVC was
    killed, it waits for that one to end, and says so on stderr.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    directory = resume_directory(stage, digest)
    directory.mkdir(parents=True, exist_ok=True)
    # The lock lies beside the folder, so that clearing the folder does not free it.
    with directory.with_suffix(".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            print(
                f"{stage}: process {lock.read().strip()} is running this very {work}; waiting for it to end",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Its end took the folder along.
            directory.mkdir(parents=True, exist_ok=True)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield directory
