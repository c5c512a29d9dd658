"""Resume state of a training: one folder a configuration, outside DVC's outs, replaced atomically.

DVC deletes a stage's outs before it runs, and would carry a persistent one into runs with *other* parameters. So what a
killed training needs to go on lies under ``.lpaint/resume/<stage>-<digest>/`` in the repository's root; the digest is
of everything that decides what the training computes.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lpaint.errors import TrainingError
from lpaint.files import replacing
from lpaint.paths import resume_directory


class ResumeState:
    """The checkpoint of one training in its own folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by ``state`` (tensors, numbers, strings, lists and mappings of them)."""
        with replacing(self.path) as temporary:
            torch.save(state, temporary)

    def load(self, device: torch.device | str) -> dict[str, Any] | None:
        """The last checkpoint with its tensors on ``device``; None where there is none.

        Raises:
            TrainingError: the file is damaged.
        """
        if not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # On damaged bytes torch raises whatever it stumbles over: IndexError, UnicodeDecodeError, and so on.
            # Its first sentence says what; the others advise how to switch the checks off.
            reason = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
            raise TrainingError(
                f"{self.path}: the checkpoint is damaged ({reason}); delete {self.directory} to start over"
            ) from None
        return state

    def clear(self) -> None:
        """Remove the folder: the training is finished and its result is written."""
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def resume_state(stage: str, key: dict[str, Any], owns: bool = True) -> Iterator[ResumeState]:
    """The resume state for ``stage`` under a configuration ``key`` (JSON values), locked while in use.

    Where another process is running the same training, as jobs of a grid that share a stage do, and a training whose
    DVC was killed, it waits for that one to end, and says so on stderr. A process that helps another (``owns`` is
    false) leaves lock and folder to that one.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    directory = resume_directory(stage, digest)
    if not owns:
        yield ResumeState(directory)
        return
    directory.mkdir(parents=True, exist_ok=True)
    # The lock lies beside the folder, so that clearing the folder does not free it.
    with directory.with_suffix(".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            print(
                f"{stage}: process {lock.read().strip()} is running this very training; waiting for it to end",
                file=sys.stderr,
                flush=True,
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Its end took the folder along.
            directory.mkdir(parents=True, exist_ok=True)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield ResumeState(directory)


def generator_state(generator: torch.Generator) -> torch.Tensor:
    """A generator's state, to be put into a checkpoint."""
    return generator.get_state()


def restore_generator(generator: torch.Generator, state: torch.Tensor) -> None:
    """Set a generator to ``state``; generator states live on the CPU whatever the device."""
    generator.set_state(state.cpu())
