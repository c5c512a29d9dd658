"""Weights files: safetensors with the network's settings in the metadata."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lpaint.errors import ModelError, one_line
from lpaint.files import atomic_write


def save_weights(path: Path, network: nn.Module, settings: dict[str, Any]) -> None:
    """Write a network's state and ``settings`` (JSON values) to ``path``, atomically."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(state, temporary, metadata={"settings": json.dumps(settings, sort_keys=True)})


def load_weights(path: Path, made_by: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State and settings from ``path``; errors name the stage ``made_by`` that writes the file.

    Raises:
        ModelError: the file is missing or damaged, or has no settings.
    """
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file; run `dvc repro {made_by}` to make it")
    try:
        with safe_open(path, framework="pt") as archive:
            settings = json.loads((archive.metadata() or {})["settings"])
            return {name: archive.get_tensor(name) for name in archive.keys()}, settings  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        reason = one_line(error)
        raise ModelError(f"{path}: is no lpaint weights file ({reason}); run `dvc repro -f {made_by}`") from None
