"""What a group of trainings achieved: means over seeds, with the interval that so few seeds allow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import t as student

from lpaint.compare.runs import Selection, Training

# The column of the L2 on validation pictures by which groups are ordered.
VALIDATION = "validation_l2"
# Judges that no discriminator can move, and whether more is better.
JUDGES = {"l2": False, "psnr": True, "ssim": True, "ms_ssim": True, "gmsd": False}


@dataclass(frozen=True)
class Estimate:
    """Mean of ``n`` values with the half-width of its 95% interval, None of a single one.

    ``missing`` more have no value: they did not get there, or did not log it.
    """

    mean: float | None
    ci95: float | None
    n: int
    missing: int = 0

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Estimate":
        """Student's t interval over the values that there are."""
        found = np.array([value for value in values if value is not None and math.isfinite(value)])
        missing = len(values) - len(found)
        if not len(found):
            return cls(None, None, 0, missing)
        half = None
        if len(found) > 1:
            half = float(student.ppf(0.975, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
        return cls(float(found.mean()), half, len(found), missing)


@dataclass(frozen=True)
class Difference:
    """One group's mean less another's, with the half-width of its 95% interval (Welch), None of too few values."""

    mean: float | None
    ci95: float | None

    @classmethod
    def of(cls, values: Sequence[float | None], others: Sequence[float | None]) -> "Difference":
        """Of the values that there are; both groups need at least two for an interval."""
        mine, theirs = (
            np.array([v for v in group if v is not None and math.isfinite(v)]) for group in (values, others)
        )
        if not len(mine) or not len(theirs):
            return cls(None, None)
        mean = float(mine.mean() - theirs.mean())
        if min(len(mine), len(theirs)) < 2:
            return cls(mean, None)
        variances = [group.var(ddof=1) / len(group) for group in (mine, theirs)]
        total = sum(variances)
        if not total:
            return cls(mean, 0.0)
        shares = (variance**2 / (len(group) - 1) for variance, group in zip(variances, (mine, theirs), strict=True))
        return cls(mean, float(student.ppf(0.975, total**2 / sum(shares)) * math.sqrt(total)))

    @property
    def verdict(self) -> str:
        """``lower`` or ``higher`` where the interval excludes zero, else ``undecided``."""
        if self.mean is None or self.ci95 is None or abs(self.mean) <= self.ci95:
            return "undecided"
        return "lower" if self.mean < 0 else "higher"


@dataclass(frozen=True)
class Row:
    """A group's estimates by column."""

    group: tuple[str, ...]
    seeds: list[str]
    cells: dict[str, Estimate]


@dataclass(frozen=True)
class Table:
    """``strokes``: the budget at which the judges are read; ``levels``: validation L2s whose reaching is timed."""

    by: tuple[str, ...]
    strokes: int
    levels: list[float]
    columns: list[str]
    rows: list[Row]


def build_table(selection: Selection, strokes: int, levels: Sequence[float]) -> Table:
    """The table of a selection that holds at least one training; see ``common_strokes`` and ``common_levels``."""
    columns: dict[str, Callable[[Training], float | None]] = {}
    columns[VALIDATION] = lambda training: training.validated(strokes)
    for judge in JUDGES:
        columns[judge] = partial(_tested, judge, strokes)
    columns["strokes_used"] = partial(_tested, "used", strokes)
    columns["best_validation_l2"] = lambda training: training.best_validation
    for level in levels:
        columns[f"updates_to_{level:g}"] = partial(_updates, level)
        columns[f"transitions_to_{level:g}"] = partial(_transitions, level)
    columns["seconds_per_update"] = seconds_per_update
    columns["peak_memory_mib"] = lambda training: training.run.metrics.get("charts/peak_memory_mib")
    rows = []
    for group, trainings in selection.groups.items():
        cells = {name: Estimate.of([read(training) for training in trainings]) for name, read in columns.items()}
        rows.append(Row(group, sorted(training.seed for training in trainings), cells))
    # By the validation split: what stands first is what a reader takes, and the test split must not choose.
    judged = all(not row.cells[VALIDATION].missing for row in rows)
    by_validation = VALIDATION if judged else "best_validation_l2"
    rows.sort(key=lambda row: mean if (mean := row.cells[by_validation].mean) is not None else math.inf)
    return Table(selection.by, strokes, list(levels), list(columns), rows)


def seconds_per_update(training: Training) -> float | None:
    """Seconds of rounds and updates over updates."""
    return None if training.seconds is None else training.seconds / training.updates


def common_strokes(trainings: Sequence[Training], wanted: int | None) -> int | None:
    """The stroke budget to judge at: ``wanted``, or 100, or else the largest at which all were judged.

    None if they have none, or not the wanted one, in common.
    """
    budgets = set.intersection(*(set(training.test("l2")) for training in trainings))
    if wanted is not None:
        return wanted if wanted in budgets else None
    return 100 if 100 in budgets else max(budgets, default=None)


def common_levels(trainings: Sequence[Training]) -> list[float]:
    """Validation L2s by which learning is timed: twice, 1.4 times and once what every training reached, rounded up."""
    reached = max(training.best_validation for training in trainings)
    return [_two_digits(factor * reached) for factor in (2.0, 1.4, 1.0)]


def _tested(judge: str, strokes: int, training: Training) -> float | None:
    return training.test(judge).get(strokes)


def _updates(level: float, training: Training) -> float | None:
    return training.reaches(level)


def _transitions(level: float, training: Training) -> float | None:
    update = training.reaches(level)
    return None if update is None else training.at("charts/transitions", update)


def _two_digits(value: float) -> float:
    """Rounded up to two significant digits, so that what reached ``value`` reached this too."""
    power = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / power, 9)) * power:.12g}")
