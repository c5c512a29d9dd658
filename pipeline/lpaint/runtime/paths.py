"""Paths in the repository, also while DVC runs a stage in a temporary copy of it.

DVC sets ``DVC_ROOT`` to the real repository while a queued or ``--temp`` experiment runs in another folder. Files that
outlive a run (resume state, the MLflow store) and relative paths of the user (``data.path``) are under that root, never
under the current folder.
"""

import os
from pathlib import Path


def repository_root() -> Path:
    """The repository's root: ``DVC_ROOT`` inside a DVC stage, else the current folder."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def mismatched_install() -> Path | None:
    """Folder of the imported lpaint, if it is not the one in the current repository; None if they are the same.

    A virtual environment refers to its repository by absolute paths. After a repository and its environment are copied
    together, the copy runs the original's code.
    """
    own, imported = repository_root() / "pipeline" / "lpaint", Path(__file__).resolve().parents[1]
    return imported if own.is_dir() and not own.samefile(imported) else None


def resolve_data_path(path: str) -> Path:
    """The absolute path of ``data.path``; a relative one starts at the repository's root, and ``~`` is expanded."""
    return (repository_root() / Path(path).expanduser()).resolve()


def resume_directory(stage: str, digest: str) -> Path:
    """Folder of a stage's resume state; ``digest`` is that of its configuration."""
    return repository_root() / ".lpaint" / "resume" / f"{stage}-{digest}"
