"""DVC's side of a grid: which experiments it knows, and which of them left no run of their own.

A configuration that ran before is restored from DVC's run cache; no process runs then, and no run is tracked. Its
figures are those of the run that made them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpaint.tracking.run_store import TrackedRun

_COMPARED = ("gan", "replay", "algorithm")


@dataclass(frozen=True)
class Experiment:
    """An experiment of DVC's: its name, what became of it, and the parameters that comparisons are mostly about."""

    name: str
    status: str
    params: dict[str, str]


def list_experiments(root: Path) -> list[Experiment]:
    """The experiments of the repository at ``root``, queued and failed ones too; none outside a repository."""
    if not (root / ".dvc").is_dir():
        return []
    from dvc.api import exp_show
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        rows = exp_show(str(root))
    except (DvcException, SCMError):
        return []
    return [_experiment(row) for row in rows if row.get("Experiment")]


def notes_on_experiments(experiments: list[Experiment], runs: list[TrackedRun]) -> list[str]:
    """A sentence on every experiment that has no tracked training of its own."""
    own = {run.tags.get("dvc.experiment") for run in runs}
    notes = []
    for experiment in experiments:
        if experiment.name in own:
            continue
        what = ", ".join(f"{name} {experiment.params.get(name, '?')}" for name in (*_COMPARED, "seed"))
        if experiment.status in ("Queued", "Running"):
            notes.append(f"experiment {experiment.name} ({what}) is {experiment.status.lower()}")
            continue
        if experiment.status == "Failed":
            notes.append(f"experiment {experiment.name} ({what}) failed; dvc queue logs {experiment.name} says why")
            continue
        same = [run for run in runs if all(run.params.get(name) == value for name, value in experiment.params.items())]
        if same:
            origin = f"it is counted by run {same[-1].run_id[:8]}, which made its model"
        else:
            origin = "no tracked run made its model: repeat it with dvc exp run --force"
        notes.append(f"experiment {experiment.name} ({what}) was restored from DVC's run cache; {origin}")
    return notes


def _experiment(row: dict[str, Any]) -> Experiment:
    params = {name: row.get(f"agent.{name}") for name in _COMPARED} | {"seed": row.get("base.seed")}
    # DVC gives whole numbers as floats.
    known = {
        name: str(int(value) if isinstance(value, float) and value.is_integer() else value)
        for name, value in params.items()
        if value is not None
    }
    return Experiment(str(row["Experiment"]), str(row.get("State") or "Success"), known)
