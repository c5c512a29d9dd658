"""Resume state of a training: a checkpoint in a folder of its own (see ``lpaint.resume``), replaced atomically."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lpaint.errors import TrainingError
from lpaint.files import replacing
from lpaint.resume import resume_folder


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
def resume_state(stage: str, key: dict[str, Any]) -> Iterator[ResumeState]:
    """The resume state for ``stage`` under a configuration ``key``; see ``lpaint.resume``."""
    with resume_folder(stage, key) as directory:
        yield ResumeState(directory)


def generator_state(generator: torch.Generator) -> torch.Tensor:
    """A generator's state, to be put into a checkpoint."""
    return generator.get_state()


def restore_generator(generator: torch.Generator, state: torch.Tensor) -> None:
    """Set a generator to ``state``; generator states live on the CPU whatever the device."""
    generator.set_state(state.cpu())
