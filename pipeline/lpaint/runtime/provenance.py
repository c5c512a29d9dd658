"""Provenance: which run made a file, and tags that name a run's code, data and upstream runs."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

from lpaint import __version__
from lpaint.files import write_text
from lpaint.runtime.artifacts import ACTOR_WEIGHTS, EVALUATION_REPORT, PREPARED_SUMMARY, RENDERER_WEIGHTS
from lpaint.runtime.paths import repository_root


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def record_output(run_id: str, path: Path) -> None:
    """Record which run made the file's content. The record is outside DVC's outs, so it re-runs no stage."""
    if run_id and path.is_file():
        write_text(_records() / digest_file(path), run_id)


def find_producing_run(path: Path) -> str | None:
    """Id of the run that made the file's content; None if this repository has no record of it."""
    if not path.is_file():
        return None
    record = _records() / digest_file(path)
    return record.read_text(encoding="utf-8").strip() if record.is_file() else None


def _records() -> Path:
    return repository_root() / ".lpaint" / "runs"


def run_tags(stage: str) -> dict[str, str]:
    """Tags of a stage's run: code version, DVC stage and experiment, data digest, and ids of upstream runs."""
    tags = {"stage": stage, "lpaint.version": __version__, "mlflow.source.name": f"stages/{stage}.py"}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags |= {"git.commit": commit, "git.dirty": str(bool(_git("status", "--porcelain", "-uno"))).lower()}
    for name, variable in (("dvc.stage", "DVC_STAGE"), ("dvc.experiment", "DVC_EXP_NAME")):
        if os.environ.get(variable):
            tags[name] = os.environ[variable]
    digest = _data_digest(PREPARED_SUMMARY)
    if digest:
        tags["data.digest"] = digest
    upstream = {
        "prepare": PREPARED_SUMMARY,
        "pretrain_renderer": RENDERER_WEIGHTS,
        "train_agent": ACTOR_WEIGHTS,
        "evaluate": EVALUATION_REPORT,
    }
    for name, path in upstream.items():
        run_id = find_producing_run(path) if name != stage else None
        if run_id:
            tags[f"upstream.{name}"] = run_id
    return tags


def _data_digest(summary: Path) -> str:
    """The prepared data's digest; empty if the summary is missing or damaged, which the data's readers report."""
    try:
        return str(json.loads(summary.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def git_commit() -> str:
    """The repository's commit; empty outside a git repository."""
    return _git("rev-parse", "HEAD")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
