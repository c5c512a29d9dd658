"""Plots of a comparison and its sheet of paintings."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lpaint.compare.runs import Curve, Selection, Training
from lpaint.compare.table import Estimate, seconds_per_update
from lpaint.plots import Band, Series, save_bars, save_curves, save_image, sheet
from lpaint.tracking.run_store import RunStore

# Curves with different steps are interpolated at this many points and averaged.
_POINTS = 60
PAINTINGS = "evaluation/paintings.npz"


def write_plots(selection: Selection, folder: Path) -> list[tuple[str, str]]:
    """Write the plots for which the runs have data. Returns (file name, caption) of each."""
    trainings = selection.trainings
    written: list[tuple[str, str]] = []

    def curves(name: str, caption: str, group: Callable[[Training], str], x: str, y: str, log_y: bool) -> None:
        series, bands = _means(trainings, group, x, y)
        if series:
            labels = {"charts/transitions": "environment steps", "charts/seconds": "seconds of training"}
            save_curves(
                folder / name, caption, labels.get(x, "updates"), y, series, log_y=log_y, bands=bands, legend=True
            )
            written.append((name, caption))

    def by(param: str) -> Callable[[Training], str]:
        return lambda training: training.run.params.get(param, "?")

    curves(
        "reward_by_steps.png",
        "Validation reward by environment steps, by replay",
        by("replay"),
        "charts/transitions",
        "validation/reward",
        False,
    )
    curves("l2_by_updates.png", "Validation L2 by updates, by GAN", by("gan"), "", "validation/l2", True)
    curves("actor_loss.png", "Actor's loss by updates, by GAN", by("gan"), "", "losses/actor", False)
    curves(
        "discriminator_loss.png",
        "Discriminator's loss by updates, by GAN; each has a scale of its own",
        by("gan"),
        "",
        "losses/discriminator",
        False,
    )
    curves(
        "l2_by_seconds.png", "Validation L2 by time", lambda t: label(t.group), "charts/seconds", "validation/l2", True
    )
    speeds = defaultdict(list)
    for training in trainings:
        speeds[by("gan")(training)].append(seconds_per_update(training))
    bars = {name: Estimate.of(values) for name, values in sorted(speeds.items())}
    bars = {name: bar for name, bar in bars.items() if bar.mean is not None}
    if bars:
        caption = "Seconds an update (episodes included), by GAN"
        heights = {name: (bar.mean or 0.0, bar.student_ci95 or 0.0) for name, bar in bars.items()}
        save_bars(folder / "seconds_by_gan.png", caption, "seconds", heights)
        written.append(("seconds_by_gan.png", caption))
    return written


def write_sheet(selection: Selection, store: RunStore, strokes: int, path: Path) -> bool:
    """Write one row per picture: the target, then the painting with ``strokes`` strokes of each group's best seed.

    The best seed has the least L2 on the validation split: that of the evaluation, or of training if the evaluation
    has none. Returns False and writes no file if fewer than two groups have paintings of the same pictures.
    """
    columns: dict[str, list[np.ndarray]] = {}
    names: list[str] = []
    with TemporaryDirectory() as folder:
        for group, trainings in selection.groups.items():
            evaluated = all(training.validated(strokes) is not None for training in trainings)
            errors = [training.validated(strokes) if evaluated else training.best_validation for training in trainings]
            best = trainings[int(np.argmin(np.array(errors, np.float64)))]
            download = Path(folder) / str(len(columns))
            download.mkdir()
            file = store.artifact(best.run.run_id, PAINTINGS, download)
            if file is None:
                continue
            with np.load(file) as kept:
                budgets, mine = kept["strokes"].tolist(), kept["names"].tolist()
                if strokes not in budgets or (names and mine != names):
                    continue
                names = mine
                images = kept["pictures"].astype(np.float32).transpose(0, 1, 4, 2, 3) / 255
            columns.setdefault("target", list(images[:, 0]))
            columns[label(group)] = list(images[:, 1 + budgets.index(strokes)])
    if len(columns) < 3:
        return False
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    save_image(path, sheet(rows, captions=list(columns)))
    return True


def label(group: Sequence[str]) -> str:
    """A group's name in plots and sheets."""
    return ", ".join(group)


def _means(
    trainings: Sequence[Training], group: Callable[[Training], str], x: str, y: str
) -> tuple[dict[str, Series], dict[str, Band]]:
    """Mean curve and range (min to max) of each group, over the x range that all of its trainings cover."""
    grouped: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for training in trainings:
        points = _points(training, x, training.curves.get(y, []))
        if len(points[0]) > 1:
            grouped[group(training)].append(points)
    series, bands = {}, {}
    for name, parts in sorted(grouped.items()):
        low, high = max(xs[0] for xs, _ in parts), min(xs[-1] for xs, _ in parts)
        if low >= high:
            continue
        grid = np.linspace(low, high, _POINTS)
        values = np.array([np.interp(grid, xs, ys) for xs, ys in parts])
        counted = f"{name} (n = {len(parts)})"
        series[counted] = (grid.tolist(), values.mean(0).tolist())
        if len(parts) > 1:
            bands[counted] = (grid.tolist(), values.min(0).tolist(), values.max(0).tolist())
    return series, bands


def _points(training: Training, x: str, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a curve. ``x`` names the curve of the x values; empty = updates."""
    by = dict(training.curves.get(x, [])) if x else {step: float(step) for step, _ in curve}
    kept = [(by[step], value) for step, value in curve if step in by and np.isfinite(value)]
    xs, ys = (np.array(column, np.float64) for column in (zip(*kept, strict=True) if kept else ((), ())))
    return xs, ys
