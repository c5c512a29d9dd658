"""Checkpoints of a training, in a folder of its own (see ``lpaint.runtime.resume``).

A checkpoint appears whole or not at all, its checksum is part of its name, and the one before it is kept: whatever
happens to a process or a file, there is a good one to go on from.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lpaint.errors import TrainingError, one_line
from lpaint.files import atomic_write
from lpaint.runtime.messages import notify
from lpaint.runtime.provenance import digest_file, git_commit
from lpaint.runtime.resume import resume_folder, write_about
from lpaint.training.restore import MisfitError

_NAME = re.compile(r"checkpoint-(\d{6})-([0-9a-f]{16})\.pt")
_KEPT = 2


class CheckpointManager:
    """The checkpoints of one training in their own folder.

    Args:
        directory: the folder, made at the first save.
        stage: the stage whose training it is.
        key: the configuration (JSON values) that its checkpoints must have been made with.
    """

    def __init__(self, directory: Path, stage: str = "", key: dict[str, Any] | None = None) -> None:
        self.directory, self.stage, self.key = directory, stage, key or {}

    @property
    def checkpoints(self) -> list[Path]:
        """Files, the newest first."""
        found = (path for path in self.directory.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name))
        return sorted(found, reverse=True)

    def save(self, state: dict[str, Any], note: str = "") -> None:
        """Add a checkpoint of ``state`` (tensors, numbers, strings, lists and mappings of them); the two newest stay.

        ``note`` tells people how far the training is.

        Raises:
            TrainingError: it cannot be written, for want of space say; those that were there are left alone.
        """
        before = self.checkpoints
        serial = 1 + (_serial(before[0]) if before else 0)
        commit = git_commit()
        fresh = self.directory / "fresh.pt"
        try:
            with atomic_write(fresh) as temporary:
                torch.save({"key": json.dumps(self.key, sort_keys=True), "commit": commit, "state": state}, temporary)
            fresh.replace(self.directory / f"checkpoint-{serial:06d}-{digest_file(fresh)[:16]}.pt")
            for old in before[_KEPT - 1 :]:
                old.unlink()
            write_about(self.directory, self.stage, self.key, note)
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as a RuntimeError of its file format.
            full = not os.statvfs(self.directory if self.directory.exists() else Path()).f_bavail
            reason = "the disk is full" if full else _first_sentence(error)
            raise TrainingError(
                f"{self.directory}: no checkpoint can be written there ({reason}); make room or mend the folder"
            ) from None

    def restore(self, load: Callable[[dict[str, Any]], object]) -> bool:
        """Hand the states of good checkpoints to ``load``, the newest first, until one fits; whether there was one.

        Tensors are on the CPU, mapped from the file; ``load`` copies what it keeps. It raises ``MisfitError`` for a
        state that was saved by code that kept other things. Such a checkpoint, and a damaged one, is passed over with a
        sentence on stderr.

        Raises:
            TrainingError: none that is there can be used, or one is of another configuration.
        """
        problem = ""
        for path in self.checkpoints:
            if problem:
                notify(f"{problem}; going on from the one before it")
            content, problem = _read(path)
            if content is None:
                continue
            self._check(path, content)
            try:
                load(content["state"])
            except MisfitError as misfit:
                problem = f"{path}: the checkpoint was made by another version of lpaint and does not fit ({misfit})"
                continue
            return True
        if problem:
            raise TrainingError(f"{problem}; lpaint resume clean {self.directory.name} starts over")
        return False

    def clear(self) -> None:
        """Remove the folder: the training is finished and its result is written."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _check(self, path: Path, content: dict[str, Any]) -> None:
        if content["key"] != json.dumps(self.key, sort_keys=True):
            other = _difference("", json.loads(content["key"]), json.loads(json.dumps(self.key)))
            raise TrainingError(
                f"{path}: is the checkpoint of another training, which differs in {other}; lpaint resume clean "
                f"{self.directory.name} starts over"
            )
        now = git_commit()
        if content["commit"] != now:
            was = content["commit"][:10] or "no commit"
            sentence = f"the checkpoint was made by the code of {was}, and this is {now[:10] or 'no commit'}"
            notify(sentence, stream=sys.stdout)


@contextmanager
def open_checkpoints(stage: str, key: dict[str, Any], owns: bool = True) -> Iterator[CheckpointManager]:
    """The resume state for ``stage`` under a configuration ``key``; see ``lpaint.runtime.resume.resume_folder``."""
    with resume_folder(stage, key, is_main=owns) as directory:
        yield CheckpointManager(directory, stage, key)


def generator_state(generator: torch.Generator) -> torch.Tensor:
    """A generator's state, to be put into a checkpoint."""
    return generator.get_state()


def restore_generator(generator: torch.Generator, state: torch.Tensor) -> None:
    """Set a generator to ``state``; generator states live on the CPU whatever the device."""
    generator.set_state(state.cpu())


def _serial(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """A checkpoint's content, or None and what is wrong with it."""
    try:
        if not path.stem.endswith(digest_file(path)[:16]):
            return None, f"{path}: the checkpoint is damaged (its checksum is not that in its name)"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(content, dict) or not {"key", "commit", "state"} <= content.keys():
            return None, f"{path}: the checkpoint is damaged (it lacks what every checkpoint has)"
    except MemoryError:
        raise
    except Exception as error:
        # On damaged bytes torch raises whatever it stumbles over: IndexError, UnicodeDecodeError, and so on.
        return None, f"{path}: the checkpoint is damaged ({_first_sentence(error)})"
    return content, ""


def _first_sentence(error: Exception) -> str:
    """What is wrong, on one line; what torch says after it is advice on how to switch its checks off."""
    return one_line(error).split(". ")[0]


def _difference(prefix: str, theirs: Any, ours: Any) -> str:
    """The first setting in which two configurations differ, with both values."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return f"{prefix} ({theirs} there, {ours} here)"
    name = next(name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name))
    return _difference(f"{prefix}.{name}".lstrip("."), theirs.get(name), ours.get(name))
