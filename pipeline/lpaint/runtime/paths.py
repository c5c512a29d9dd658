"""Where things are, also when DVC runs a stage in a temporary copy of the repository.

DVC sets ``DVC_ROOT`` to the real repository while a queued or ``--temp`` experiment runs elsewhere. What must outlive
a run (resume state, the MLflow store) and what the user names relative to the repository (``data.path``) is therefore
looked up under that root, never under the current folder.
"""

import os
from pathlib import Path


def repository_root() -> Path:
    """The repository's root: ``DVC_ROOT`` inside a DVC stage, else the current folder."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def foreign_code() -> Path | None:
    """Where lpaint comes from, if that is not the repository in use although it has the code; None if all is well.

    A virtual environment names its repository by absolute paths. In one that was copied along with its repository, the
    original's code runs.
    """
    own, used = repository_root() / "pipeline" / "lpaint", Path(__file__).resolve().parents[1]
    return used if own.is_dir() and not own.samefile(used) else None


def resolve_data_path(path: str) -> Path:
    """A user's ``data.path``: absolute as given, else relative to the repository's root (``~`` is expanded)."""
    return (repository_root() / Path(path).expanduser()).resolve()


def resume_directory(stage: str, digest: str) -> Path:
    """Folder of a stage's resume state, keyed by its configuration's ``digest``."""
    return repository_root() / ".lpaint" / "resume" / f"{stage}-{digest}"
