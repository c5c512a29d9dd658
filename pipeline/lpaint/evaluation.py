"""Evaluation of a trained agent on pictures that it has never seen: error as a function of strokes."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from lpaint.errors import DataError
from lpaint.files import atomic_write
from lpaint.metrics import gmsd, l2, ms_ssim, psnr, reward, ssim
from lpaint.painting.engine.resample import resize
from lpaint.painting.engine.search import EFFORT, budgets_within_episode, paint
from lpaint.painting.engine.types import PaintingModel, Strokes
from lpaint.painting.io.image import canvas_to_pixels
from lpaint.painting.io.timelapse import write_timelapse
from lpaint.painting.render import draw_strokes
from lpaint.plots import save_curves, save_image, sheet
from lpaint.strokes import StrokeFamily, pixel_centres

METRICS = ("l2", "l2_canvas", "psnr", "ssim", "ms_ssim", "gmsd", "reward")
_RANKING_BUDGET = 100
# Paintings saved for comparisons with other agents.
_SAVED_PAINTINGS = 8
# Time-lapses: frames a second, and the most frames before the last one is held.
_FPS, _MAX_FRAMES = 1000 / 60, 60


@dataclass(frozen=True)
class Evaluation:
    """What the agent painted and how close it came.

    Attributes:
        table: one row for each image and budget with the columns ``row``, ``name``, ``strokes`` (the budget), ``used``
            (strokes painted; fewer where nothing more helped) and METRICS; sorted by budget, then in the order of
            ``rows``.
        images: the packed pictures [M, H, W, 3] uint8.
        rows: [N], which of them were painted.
        strokes: N paintings.
    """

    table: pd.DataFrame
    images: np.ndarray
    rows: np.ndarray
    strokes: list[Strokes]

    @property
    def budgets(self) -> list[int]:
        """Stroke budgets, ascending."""
        return sorted(int(budget) for budget in self.table["strokes"].unique())


def evaluate(
    model: PaintingModel,
    images: np.ndarray,
    rows: np.ndarray,
    names: Sequence[str],
    budgets: Sequence[int],
    effort: int = EFFORT,
    batch: int = 32,
) -> Evaluation:
    """Paint pictures within each budget and measure; ``l2_canvas`` is the L2 after averaging down to the model's size.

    The model paints by its own protocol; see ``search.paint``. Memory holds the canvases of one batch and the
    strokes of all pictures (34 kB a picture at 500 strokes).

    Args:
        model: the trained model.
        images: [M, H, W, 3] uint8, packed; may be memory-mapped.
        rows: [N], which of them to paint; ``names``: their N names.
        budgets: stroke counts; those beyond the model's episode are left out (``budgets_within_episode``).
        effort: how selective the search is; see ``search.paint_by_search``.
        batch: pictures painted together.

    Raises:
        DataError: ``rows`` is empty.
    """
    if not len(rows):
        raise DataError("data: there is no image to evaluate on; raise data.limit or the split's fraction")
    budgets = budgets_within_episode(model, budgets)
    tables, strokes = [], []
    for at in range(0, len(rows), batch):
        part = rows[at : at + batch]
        targets = _pictures(images, part)
        result = paint(model, targets, budgets, effort=effort)
        used = np.array([len(each) for each in result.strokes])
        for budget in budgets:
            columns = {"row": part, "name": list(names[at : at + batch]), "strokes": budget}
            columns |= {"used": np.minimum(used, budget)} | _measure(result.snapshots[budget], targets, model.canvas)
            tables.append(pd.DataFrame(columns))
        strokes += result.strokes
    # The sort is stable, so that pictures keep the order of ``rows`` within a budget.
    table = pd.concat(tables).sort_values("strokes", kind="stable", ignore_index=True)
    return Evaluation(table, images, rows, strokes)


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """Count, mean number of strokes used, and of every metric mean, median and 95% interval, by stroke budget.

    ``ci95`` is the half-width of the mean's normal interval over pictures, 1.96 s / sqrt(n); a single picture has none.
    It is the uncertainty of the mean over such pictures, not that of another training. PSNR is capped at
    100 dB and everything is rounded, so that the report is finite and the same for the same paintings.
    """
    strokes: dict[str, Any] = {}
    for budget, group in evaluation.table.groupby("strokes"):
        entry: dict[str, Any] = {"n": len(group), "used": round(float(group["used"].mean()), 2)}
        strokes[str(budget)] = entry | {name: _describe(group[name].to_numpy()) for name in METRICS}
    return {"images": len(evaluation.rows), "size": int(evaluation.images.shape[1]), "strokes": strokes}


@torch.no_grad()
def neural_gap(
    renderer: nn.Module, family: StrokeFamily, strokes: Sequence[Strokes], first: int, limit: int = 4096
) -> dict[str, float]:
    """How far the neural renderer is from the exact one on strokes that the agent paints, not on random ones.

    Args:
        renderer: shapes [n, P] -> opacity [n, S, S]; compared at its own size S.
        family: the strokes' family, which has the exact rasteriser.
        strokes: paintings; of each, the strokes on the whole picture among its ``first`` ones are compared (on tiles
            strokes overhang the frame, which the neural renderer cannot draw).
        limit: most strokes to compare, evenly spaced over all.

    Returns:
        ``l1`` and ``l2``, means of the opacity's absolute and squared difference, and ``strokes``, how many were
        compared; only the last if there were none.
    """
    whole = [part.values[:first][(part.frames[:first, 2:] == 1).all(1)] for part in strokes if len(part)]
    shapes = np.concatenate(whole)[:, : family.shape_parameters] if whole else np.zeros((0, 0), np.float32)
    if not len(shapes):
        return {"strokes": 0}
    shapes = shapes[np.linspace(0, len(shapes) - 1, min(limit, len(shapes))).astype(int)]
    absolute = squared = 0.0
    for part in torch.from_numpy(shapes).split(256):
        drawn = renderer(part)
        difference = (drawn - family.rasterise(part, *pixel_centres(len(part), drawn.shape[-1]))).double()
        absolute += difference.abs().mean((1, 2)).sum().item()
        squared += difference.square().mean((1, 2)).sum().item()
    return {"l1": round(absolute / len(shapes), 6), "l2": round(squared / len(shapes), 6), "strokes": len(shapes)}


def write_figures(evaluation: Evaluation, model: PaintingModel, folder: Path, timelapses: int) -> None:
    """Fill a folder: per_image.parquet, strokes.csv (means by budget), plots, sheets and animated paintings.

    ``paintings.npz`` holds the first pictures and their paintings at each budget, for comparisons with other agents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.table.to_parquet(folder / "per_image.parquet", index=False)
    means = evaluation.table.groupby("strokes")[["used", *METRICS]].mean().round(6)
    means.reset_index().to_csv(folder / "strokes.csv", index=False)
    _plot_metrics(evaluation, folder)
    captions = ["target", *map(str, evaluation.budgets)]
    for name, indices in ranked(evaluation).items():
        pictures = [_target_and_paintings(evaluation, model, index) for index in indices]
        save_image(folder / f"{name}.png", sheet(pictures, captions=captions))
    _save_paintings(evaluation, model, folder / "paintings.npz")
    height, width = evaluation.images.shape[1:3]
    for index, strokes in enumerate(evaluation.strokes[:timelapses]):
        path, seconds = folder / f"timelapse_{index}.webp", min(_MAX_FRAMES, len(strokes) + 1) / _FPS
        write_timelapse(path, model, strokes, 2 * height, 2 * width, _FPS, seconds)


def ranked(evaluation: Evaluation, count: int = 4) -> dict[str, np.ndarray]:
    """Indices into ``rows`` of the best, median and worst pictures by L2 at 100 strokes, or else the largest budget."""
    budget = _RANKING_BUDGET if _RANKING_BUDGET in evaluation.budgets else evaluation.budgets[-1]
    table = evaluation.table
    order = np.argsort(table.loc[table["strokes"] == budget, "l2"].to_numpy(), kind="stable")
    middle = max(0, (len(order) - count) // 2)
    return {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that replaces it on success, and is removed on any exception."""
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _pictures(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Packed uint8 [M, H, W, 3] -> float32 [N, 3, H, W] in [0, 1]."""
    return np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2), np.float32) / 255


def _measure(canvas: np.ndarray, targets: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """METRICS, each [B]."""
    small = [resize(pictures, size, size) for pictures in (canvas, targets)]
    metrics = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "gmsd": gmsd, "reward": reward}
    errors = {"l2": l2(canvas, targets), "l2_canvas": l2(*small)}
    return errors | {name: metric(canvas, targets) for name, metric in metrics.items()}


def _describe(values: np.ndarray) -> dict[str, float]:
    described = {"mean": values.mean(), "median": np.median(values)}
    if len(values) > 1:
        described["ci95"] = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return {name: round(float(value), 6) for name, value in described.items()}


def _target_and_paintings(evaluation: Evaluation, model: PaintingModel, index: int) -> list[np.ndarray]:
    """The target, and the painting at each budget drawn again from its strokes: all canvases would take gigabytes."""
    target = _pictures(evaluation.images, evaluation.rows[index : index + 1])[0]
    strokes = evaluation.strokes[index]
    wanted = [min(budget, len(strokes)) for budget in evaluation.budgets]
    drawn = enumerate(draw_strokes(model, strokes, *target.shape[1:]))
    kept = {count: canvas.copy() for count, canvas in drawn if count in wanted}
    return [target, *(kept[count] for count in wanted)]


def _save_paintings(evaluation: Evaluation, model: PaintingModel, path: Path) -> None:
    """``names`` [N], ``strokes`` [K] and ``pictures`` [N, 1 + K, H, W, 3] uint8: the target, then each budget's."""
    first = range(min(_SAVED_PAINTINGS, len(evaluation.strokes)))
    pictures = [list(map(canvas_to_pixels, _target_and_paintings(evaluation, model, index))) for index in first]
    names = evaluation.table["name"].iloc[: len(first)].to_numpy(str)
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, names=names, strokes=evaluation.budgets, pictures=np.array(pictures))


def _plot_metrics(evaluation: Evaluation, folder: Path) -> None:
    """Median and middle half of L2, PSNR and SSIM by strokes, one PNG each."""
    groups = evaluation.table.groupby("strokes")
    used = groups["used"].mean()
    ticks = {budget: _tick(budget, float(used[budget])) for budget in evaluation.budgets}
    for name, label in (("l2", "L2 (mean squared error)"), ("psnr", "PSNR, dB"), ("ssim", "SSIM")):
        low, middle, high = (list(groups[name].quantile(share)) for share in (0.25, 0.5, 0.75))
        save_curves(
            folder / f"{name}.png",
            f"{name.upper()} by strokes on {len(evaluation.rows)} test images",
            "strokes",
            label,
            {"median": (evaluation.budgets, middle)},
            log_x=True,
            log_y=name == "l2",
            bands={"middle half": (evaluation.budgets, low, high)},
            ticks=ticks,
        )


def _tick(budget: int, used: float) -> str:
    """A budget on the axis of a plot, with the mean number of strokes used where that is another."""
    mean = f"{used:.0f}"
    return str(budget) if mean == str(budget) else f"{budget}\n({mean} used)"
