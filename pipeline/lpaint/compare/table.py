"""Results of groups of trainings: means over seeds with confidence intervals for few seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import t as student

from lpaint.compare.runs import Selection, Training

# Column of the validation L2, by which groups are sorted.
VALIDATION = "validation_l2"
# Metrics that no discriminator influences, and whether more is better.
METRICS = {"l2": False, "psnr": True, "ssim": True, "ms_ssim": True, "gmsd": False}


@dataclass(frozen=True)
class Estimate:
    """Mean of ``n`` values, and the half-width of Student's 95% interval (None for a single value).

    ``missing``: trainings without a value. They did not reach the threshold, or did not log the metric.
    """

    mean: float | None
    student_ci95: float | None
    n: int
    missing: int = 0

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Estimate":
        """Estimate from the values that are not missing."""
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
    """Difference of the means of two groups, and the half-width of Welch's 95% interval (None for too few values)."""

    mean: float | None
    welch_ci95: float | None

    @classmethod
    def of(cls, values: Sequence[float | None], others: Sequence[float | None]) -> "Difference":
        """Mean of ``values`` minus mean of ``others``. An interval needs at least two values in each group."""
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
        """``lower`` or ``higher`` if the interval excludes zero, else ``undecided``."""
        if self.mean is None or self.welch_ci95 is None or abs(self.mean) <= self.welch_ci95:
            return "undecided"
        return "lower" if self.mean < 0 else "higher"


@dataclass(frozen=True)
class Row:
    """Estimates of a group, by column."""

    group: tuple[str, ...]
    seeds: list[str]
    cells: dict[str, Estimate]


@dataclass(frozen=True)
class Table:
    """``strokes``: stroke budget of the metrics; ``thresholds``: validation L2s of the columns ``updates_to_...``."""

    by: tuple[str, ...]
    strokes: int
    thresholds: list[float]
    columns: list[str]
    rows: list[Row]


def build_table(selection: Selection, strokes: int, thresholds: Sequence[float]) -> Table:
    """Table of a selection of at least one training."""
    columns: dict[str, Callable[[Training], float | None]] = {}
    columns[VALIDATION] = lambda training: training.validated(strokes)
    for metric in METRICS:
        columns[metric] = partial(_tested, metric, strokes)
    columns["strokes_used"] = partial(_tested, "used", strokes)
    columns["best_validation_l2"] = lambda training: training.best_validation
    for threshold in thresholds:
        columns[f"updates_to_{threshold:g}"] = partial(_updates, threshold)
        columns[f"transitions_to_{threshold:g}"] = partial(_transitions, threshold)
    columns["seconds_per_update"] = seconds_per_update
    columns["peak_memory_mib"] = lambda training: training.run.metrics.get("charts/peak_memory_mib")
    rows = []
    for group, trainings in selection.groups.items():
        cells = {name: Estimate.of([read(training) for training in trainings]) for name, read in columns.items()}
        rows.append(Row(group, sorted(training.seed for training in trainings), cells))
    # Sorted by the validation split: readers take the first row, and the test split must not choose it.
    evaluated = all(not row.cells[VALIDATION].missing for row in rows)
    by_validation = VALIDATION if evaluated else "best_validation_l2"
    rows.sort(key=lambda row: mean if (mean := row.cells[by_validation].mean) is not None else math.inf)
    return Table(selection.by, strokes, list(thresholds), list(columns), rows)


def seconds_per_update(training: Training) -> float | None:
    """Mean seconds per update, rounds included."""
    return None if training.seconds is None else training.seconds / training.updates


def common_strokes(trainings: Sequence[Training], wanted: int | None) -> int | None:
    """The stroke budget to compare at: ``wanted``; else 100, or the largest at which all were evaluated.

    None if not all were evaluated at ``wanted``, or there is no common budget.
    """
    budgets = set.intersection(*(set(training.test("l2")) for training in trainings))
    if wanted is not None:
        return wanted if wanted in budgets else None
    return 100 if 100 in budgets else max(budgets, default=None)


def common_thresholds(trainings: Sequence[Training]) -> list[float]:
    """Thresholds of validation L2: 2, 1.4 and 1 times the value that all trainings reached, rounded up."""
    reached = max(training.best_validation for training in trainings)
    return [_two_digits(factor * reached) for factor in (2.0, 1.4, 1.0)]


def _tested(metric: str, strokes: int, training: Training) -> float | None:
    return training.test(metric).get(strokes)


def _updates(threshold: float, training: Training) -> float | None:
    return training.reaches(threshold)


def _transitions(threshold: float, training: Training) -> float | None:
    update = training.reaches(threshold)
    return None if update is None else training.at("charts/transitions", update)


def _two_digits(value: float) -> float:
    """Round up to two significant digits, so that every training that reached ``value`` reached the result too."""
    power = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(round(value / power, 9)) * power:.12g}")
