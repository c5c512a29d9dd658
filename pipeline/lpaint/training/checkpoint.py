"""Checkpoints of a training, in the training's resume folder (see ``lpaint.runtime.resume``).

Writing a checkpoint is atomic, its checksum is part of its name, and the previous checkpoint is kept. So a killed
process or a damaged file leaves at least one good checkpoint.
"""

import json
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
    """Saves and restores the checkpoints of one training.

    Args:
        directory: the folder of the checkpoints; the first save creates it.
        stage: the stage that trains.
        key: the training's configuration (JSON values); checkpoints of another configuration are refused.
    """

    def __init__(self, directory: Path, stage: str = "", key: dict[str, Any] | None = None) -> None:
        self.directory, self.stage, self.key = directory, stage, key or {}

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoint files, newest first."""
        found = (path for path in self.directory.glob("checkpoint-*.pt") if _NAME.fullmatch(path.name))
        return sorted(found, reverse=True)

    def save(self, state: dict[str, Any], note: str = "") -> None:
        """Write a checkpoint and keep the two newest.

        Args:
            state: tensors, numbers, strings, and lists and mappings of them.
            note: how far the training is, for ``lpaint resume list``.

        Raises:
            TrainingError: the checkpoint cannot be written, e.g. on a full disk; earlier checkpoints are kept.
        """
        earlier = self.checkpoints
        serial = 1 + (_serial(earlier[0]) if earlier else 0)
        commit = git_commit()
        fresh = self.directory / "fresh.pt"
        try:
            with atomic_write(fresh) as temporary:
                torch.save({"key": json.dumps(self.key, sort_keys=True), "commit": commit, "state": state}, temporary)
            fresh.replace(self.directory / f"checkpoint-{serial:06d}-{digest_file(fresh)[:16]}.pt")
            for old in earlier[_KEPT - 1 :]:
                old.unlink()
            write_about(self.directory, self.stage, self.key, note)
        except (OSError, RuntimeError) as error:
            # torch reports a full disk as a RuntimeError about its file format.
            full = not shutil.disk_usage(self.directory if self.directory.exists() else Path()).free
            reason = "the disk is full" if full else _first_sentence(error)
            raise TrainingError(
                f"{self.directory}: no checkpoint can be written there ({reason}); make room or repair the folder"
            ) from None

    def restore(self, load: Callable[[dict[str, Any]], object]) -> bool:
        """Load the newest checkpoint that is intact and fits; returns whether there was any checkpoint.

        Args:
            load: called with the state. Its tensors are on the CPU and mapped from the file, so ``load`` must copy
                them. It raises ``MisfitError`` for a state of another structure. Such checkpoints and damaged ones are
                skipped with a message on stderr.

        Raises:
            TrainingError: no checkpoint can be used, or one is of another configuration.
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
        """Remove the folder, after the training's result is written."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _check(self, path: Path, content: dict[str, Any]) -> None:
        if content["key"] != json.dumps(self.key, sort_keys=True):
            difference = _difference("", json.loads(content["key"]), json.loads(json.dumps(self.key)))
            raise TrainingError(
                f"{path}: is the checkpoint of another training, which differs in {difference}; lpaint resume clean "
                f"{self.directory.name} starts over"
            )
        now = git_commit()
        if content["commit"] != now:
            was = content["commit"][:10] or "no commit"
            sentence = f"the checkpoint was made by the code of {was}, and this is {now[:10] or 'no commit'}"
            notify(sentence, stream=sys.stdout)


@contextmanager
def open_checkpoints(stage: str, key: dict[str, Any], is_main: bool = True) -> Iterator[CheckpointManager]:
    """The checkpoints of ``stage`` with the configuration ``key``, in its ``resume_folder``, locked while in use."""
    with resume_folder(stage, key, is_main=is_main) as directory:
        yield CheckpointManager(directory, stage, key)


def generator_state(generator: torch.Generator) -> torch.Tensor:
    """A generator's state for a checkpoint, on the CPU."""
    return generator.get_state()


def restore_generator(generator: torch.Generator, state: torch.Tensor) -> None:
    """Set a generator to ``state``."""
    generator.set_state(state.cpu())


def _serial(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else 0


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """A checkpoint's content and "", or None and a message on what is wrong."""
    try:
        if not path.stem.endswith(digest_file(path)[:16]):
            return None, f"{path}: the checkpoint is damaged (its checksum is not that in its name)"
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(content, dict) or not {"key", "commit", "state"} <= content.keys():
            return None, f"{path}: the checkpoint is damaged (it lacks what every checkpoint has)"
    except MemoryError:
        raise
    except Exception as error:
        # On damaged bytes torch raises many types of errors: IndexError, UnicodeDecodeError, and so on.
        return None, f"{path}: the checkpoint is damaged ({_first_sentence(error)})"
    return content, ""


def _first_sentence(error: Exception) -> str:
    """The error's first sentence. In torch's messages advice follows it on how to switch its checks off."""
    return one_line(error).split(". ")[0]


def _difference(prefix: str, saved: Any, current: Any) -> str:
    """The name of the first setting in which two configurations differ, and both values."""
    if not (isinstance(saved, dict) and isinstance(current, dict)):
        return f"{prefix} ({saved} there, {current} here)"
    name = next(name for name in sorted({*saved, *current}) if saved.get(name) != current.get(name))
    return _difference(f"{prefix}.{name}".lstrip("."), saved.get(name), current.get(name))
