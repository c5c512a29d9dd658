"""DVC's experiments, and those among them without a tracked run.

DVC restores a configuration that ran before from its run cache. No process runs then, and no run is tracked; the
results are those of the earlier run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpaint.tracking.run_store import TrackedRun

_COMPARED = ("gan", "replay", "algorithm")


@dataclass(frozen=True)
class Experiment:
    """A DVC experiment: name, status, and the parameters that are usually compared."""

    name: str
    status: str
    params: dict[str, str]


def list_experiments(root: Path) -> list[Experiment]:
    """All experiments of the repository at ``root``, also queued and failed ones; none outside a DVC repository."""
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
    """One sentence for each experiment without a tracked training."""
    own = {run.tags.get("dvc.experiment") for run in runs}
    notes = []
    for experiment in experiments:
        if experiment.name in own:
            continue
        settings = ", ".join(f"{name} {experiment.params.get(name, '?')}" for name in (*_COMPARED, "seed"))
        if experiment.status in ("Queued", "Running"):
            notes.append(f"experiment {experiment.name} ({settings}) is {experiment.status.lower()}")
            continue
        if experiment.status == "Failed":
            notes.append(
                f"experiment {experiment.name} ({settings}) failed; dvc queue logs {experiment.name} shows why"
            )
            continue
        same = [run for run in runs if all(run.params.get(name) == value for name, value in experiment.params.items())]
        if same:
            origin = f"run {same[-1].run_id[:8]} made its model and counts for it"
        else:
            origin = "no tracked run made its model: repeat it with dvc exp run --force"
        notes.append(f"experiment {experiment.name} ({settings}) was restored from DVC's run cache; {origin}")
    return notes


def _experiment(row: dict[str, Any]) -> Experiment:
    params = {name: row.get(f"agent.{name}") for name in _COMPARED} | {"seed": row.get("base.seed")}
    # DVC returns whole numbers as floats.
    known = {
        name: str(int(value) if isinstance(value, float) and value.is_integer() else value)
        for name, value in params.items()
        if value is not None
    }
    return Experiment(str(row["Experiment"]), str(row.get("State") or "Success"), known)
