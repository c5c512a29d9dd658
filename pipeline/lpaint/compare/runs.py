"""Select the trainings to compare, say why others are left out, and read the results of each."""

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from lpaint.errors import ParamsError
from lpaint.tracking.base import FINAL_VALIDATION
from lpaint.tracking.run_store import RunStore, TrackedRun

# Parameters of the machine or the run, not of the method.
_INCIDENTAL = ("base.threads", "base.seed", "seed", "compute.threads", "base.tracking", "export.", "data.workers")
CURVES = (
    "validation/l2",
    "validation/reward",
    "charts/seconds",
    "charts/transitions",
    "losses/actor",
    "losses/discriminator",
)
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Training:
    """A finished and evaluated training. ``group``: its values of the compared parameters."""

    run: TrackedRun
    group: tuple[str, ...]
    seed: str
    curves: dict[str, Curve]

    def test(self, metric: str) -> dict[int, float]:
        """Mean of a metric on the test split, by stroke budget."""
        return dict(self.curves.get(f"test/{metric}", []))

    def validated(self, strokes: int) -> float | None:
        """Mean L2 of the final evaluation on the validation split; None for runs of an lpaint that had none."""
        return dict(self.curves.get(f"{FINAL_VALIDATION}/l2", [])).get(strokes)

    @property
    def best_validation(self) -> float:
        """Least validation L2 during training."""
        return min(value for _, value in self.curves["validation/l2"])

    @property
    def updates(self) -> int:
        """Number of updates."""
        return self.curves["validation/l2"][-1][0]

    @property
    def seconds(self) -> float | None:
        """Seconds spent on rounds and updates; None if the run did not log them."""
        logged = self.curves.get("charts/seconds")
        return logged[-1][1] if logged else None

    def reaches(self, threshold: float) -> int | None:
        """The first update with a validation L2 at or below ``threshold``; None if there is none."""
        return next((step for step, value in self.curves["validation/l2"] if value <= threshold), None)

    def at(self, name: str, update: int) -> float | None:
        """Value of a curve at an update; None if it was not logged there."""
        return dict(self.curves.get(name, [])).get(update)


@dataclass
class Selection:
    """Trainings to compare, and sentences on those left out.

    ``by``: the compared parameters; ``tracked``: all trainings in the store; ``differing``: other parameters that
    differ between the trainings, with their values.
    """

    by: tuple[str, ...]
    tracked: list[TrackedRun]
    trainings: list[Training] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    differing: dict[str, list[str]] = field(default_factory=dict)

    @property
    def groups(self) -> dict[tuple[str, ...], list[Training]]:
        """Trainings by group, sorted by group."""
        found: dict[tuple[str, ...], list[Training]] = defaultdict(list)
        for training in self.trainings:
            found[training.group].append(training)
        return dict(sorted(found.items()))


def select_trainings(store: RunStore, by: Sequence[str], where: dict[str, str], metrics: Sequence[str]) -> Selection:
    """The trainings of a store that can be compared.

    Of finished trainings with the same parameters, seed included, only the newest counts. All must have used the same
    data: those that most trainings used.

    Args:
        store: the tracked runs.
        by: names of parameters, as logged.
        where: values that parameters must have.
        metrics: metrics of the test split to read, e.g. ``l2``.

    Raises:
        ParamsError: no run has a parameter of that name.
    """
    runs = store.runs("train_agent")
    selection = Selection(tuple(by), runs)
    if runs:
        known = {name for run in runs for name in run.params}
        for name in (*by, *where):
            _check_known(name, known)
    runs = [run for run in runs if all(run.params.get(name) == value for name, value in where.items())]
    finished = _finished(runs, selection.left_out)
    finished = _newest(finished, selection.left_out)
    finished = _on_the_same_data(finished, selection.left_out)
    names = (*CURVES, f"{FINAL_VALIDATION}/l2", "test/used", *(f"test/{metric}" for metric in metrics))
    for run in finished:
        curves = {name: store.history(run.run_id, name) for name in names if name in run.metrics}
        group = tuple(run.params.get(name, "?") for name in by)
        selection.trainings.append(Training(run, group, run.params.get("seed", "?"), curves))
    selection.differing = _differing(finished, by)
    return selection


def describe(run: TrackedRun) -> str:
    """Run id and main parameters."""
    params = run.params
    words = (f"{name} {params[name]}" for name in ("gan", "replay", "algorithm", "seed") if name in params)
    return f"run {run.run_id[:8]} ({', '.join(words)})"


def _check_known(name: str, known: set[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; names are those of params.yaml, such as agent.gan"
        raise ParamsError(f"no tracked training has a parameter {name!r}{hint}")


def _finished(runs: list[TrackedRun], left_out: list[str]) -> list[TrackedRun]:
    whole = []
    for run in runs:
        if run.status != "FINISHED":
            left_out.append(f"{describe(run)} is {run.status.lower()}, not finished")
        elif "validation/l2" not in run.metrics:
            left_out.append(f"{describe(run)} has no validation")
        elif "test/l2" not in run.metrics:
            left_out.append(f"{describe(run)} was never evaluated on the test pictures; dvc repro evaluate does that")
        else:
            whole.append(run)
    return whole


def _newest(runs: list[TrackedRun], left_out: list[str]) -> list[TrackedRun]:
    latest: dict[tuple[object, ...], TrackedRun] = {}
    for run in runs:
        key = (run.tags.get("data.digest"), *sorted(run.params.items()))
        if key in latest:
            left_out.append(f"{describe(latest[key])} was repeated; its newest repetition counts")
        latest[key] = run
    return sorted(latest.values(), key=lambda run: run.start_time)


def _on_the_same_data(runs: list[TrackedRun], left_out: list[str]) -> list[TrackedRun]:
    by_data: dict[str, list[TrackedRun]] = defaultdict(list)
    for run in runs:
        by_data[run.tags.get("data.digest", "")].append(run)
    if len(by_data) < 2:
        return runs
    most = max(by_data, key=lambda digest: (len(by_data[digest]), by_data[digest][-1].start_time))
    for digest, others in by_data.items():
        if digest != most:
            left_out += [f"{describe(run)} was trained on other data than most" for run in others]
    return by_data[most]


def _differing(runs: list[TrackedRun], by: Sequence[str]) -> dict[str, list[str]]:
    values: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for name, value in run.params.items():
            values[name].add(value)
    # Compared parameters are logged twice, as agent.gan and as gan.
    compared = {*by, *(f"agent.{name}" for name in by), *(name.removeprefix("agent.") for name in by)}
    return {
        name: sorted(found)
        for name, found in sorted(values.items())
        if len(found) > 1 and name not in compared and not name.startswith(_INCIDENTAL)
    }
