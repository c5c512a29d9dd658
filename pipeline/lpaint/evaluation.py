"""Judging a trained agent on pictures that it has never seen: error as a function of strokes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from lpaint.files import replacing
from lpaint.metrics import l2, psnr, reward, ssim
from lpaint.painting.painter import Painting, PaintingModel, Strokes, draw_strokes, paint_by_error
from lpaint.painting.resample import resize
from lpaint.plots import save_curves, save_image, sheet, to_bytes
from lpaint.strokes import StrokeFamily, pixel_centres

METRICS = ("l2", "l2_canvas", "psnr", "ssim", "reward")
_BATCH = 32


@dataclass(frozen=True)
class Evaluation:
    """``table``: one row an image and budget, with the columns ``row``, ``name``, ``strokes`` and METRICS;
    ``targets`` [N, 3, H, W]; ``snapshots``: budget -> canvases like ``targets``; ``strokes``: one a picture."""

    table: pd.DataFrame
    targets: np.ndarray
    snapshots: dict[int, np.ndarray]
    strokes: list[Strokes]


def evaluate(model: PaintingModel, images: np.ndarray, rows: np.ndarray, names: list[str], budgets: list[int]) -> Evaluation:
    """Paint pictures within each budget and measure.

    Args:
        model: the trained painter.
        images: [N, H, W, 3] uint8.
        rows: [N], their rows in the packed array; ``names``: their names.
        budgets: stroke counts.
    """
    targets = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 255
    parts: list[Painting] = [
        paint_by_error(model, targets[at : at + _BATCH], budgets) for at in range(0, len(targets), _BATCH)
    ]
    snapshots = {budget: np.concatenate([part.snapshots[budget] for part in parts]) for budget in budgets}
    tables = [_measure(canvas, targets, model.canvas).assign(row=rows, name=names, strokes=budget) for budget, canvas in snapshots.items()]
    table = pd.concat(tables, ignore_index=True)[["row", "name", "strokes", *METRICS]]
    return Evaluation(table, targets, snapshots, [strokes for part in parts for strokes in part.strokes])


def summarise(evaluation: Evaluation, size: int) -> dict[str, Any]:
    """Mean, median and the half-width of the mean's 95% normal interval, by strokes and metric."""
    strokes: dict[str, Any] = {}
    for budget, group in evaluation.table.groupby("strokes"):
        strokes[str(budget)] = {
            name: {
                "mean": round(float(group[name].mean()), 6),
                "median": round(float(group[name].median()), 6),
                "ci95": round(float(1.96 * group[name].std(ddof=0) / np.sqrt(len(group))), 6),
            }
            for name in METRICS
        }
    return {"images": len(evaluation.targets), "size": size, "strokes": strokes}


@torch.no_grad()
def neural_gap(renderer: nn.Module, family: StrokeFamily, strokes: Sequence[Strokes], canvas: int, limit: int = 2048) -> dict[str, float]:
    """How far the neural renderer is from the exact one on strokes that the agent paints: L1 and L2 of the opacity."""
    shape = torch.from_numpy(np.concatenate([part.values for part in strokes])[:limit, : family.shape_parameters])
    difference = torch.cat(
        [renderer(part) - family.rasterise(part, *pixel_centres(len(part), canvas)) for part in shape.split(256)]
    )
    return {"l1": round(difference.abs().mean().item(), 6), "l2": round(difference.square().mean().item(), 6)}


def write_figures(evaluation: Evaluation, model: PaintingModel, folder: Path, timelapses: int) -> None:
    """Best, median and worst sheets, plots of each metric by strokes, and animated paintings."""
    for name, rows in ranked(evaluation).items():
        pictures = [[evaluation.targets[i], *(canvas[i] for canvas in evaluation.snapshots.values())] for i in rows]
        save_image(folder / f"{name}.png", sheet(pictures))
    means = evaluation.table.groupby("strokes")[list(METRICS)]
    means.mean().reset_index().to_csv(folder / "strokes.csv", index=False)
    quartiles = {share: means.quantile(share) for share in (0.25, 0.5, 0.75)}
    budgets = list(quartiles[0.5].index)
    for name in ("l2", "psnr", "ssim"):
        low, middle, high = (list(quartiles[share][name]) for share in (0.25, 0.5, 0.75))
        title = f"{name.upper()} by strokes on {len(evaluation.targets)} test images"
        save_curves(
            folder / f"{name}.png",
            title,
            "strokes",
            name,
            {"median": (budgets, middle)},
            log_x=True,
            log_y=name == "l2",
            bands={"middle half": (budgets, low, high)},
        )
    side = evaluation.targets.shape[2]
    for place in range(min(timelapses, len(evaluation.strokes))):
        write_timelapse(folder / f"timelapse_{place}.webp", model, evaluation.strokes[place], 2 * side)


def ranked(evaluation: Evaluation, count: int = 4) -> dict[str, np.ndarray]:
    """Places of the best, median and worst pictures by L2 at 100 strokes, or at the largest budget without it."""
    budgets = list(evaluation.snapshots)
    judged = 100 if 100 in budgets else budgets[-1]
    order = np.argsort(evaluation.table.loc[evaluation.table["strokes"] == judged, "l2"].to_numpy(), kind="stable")
    middle = max(0, (len(order) - count) // 2)
    return {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}


def write_timelapse(path: Path, model: PaintingModel, strokes: Strokes, side: int, frames: int = 60) -> None:
    """Animate a painting stroke by stroke as WebP; the last frame is held for two seconds."""
    shown = set(np.linspace(0, len(strokes), min(frames, len(strokes) + 1)).astype(int))
    pictures = [
        Image.fromarray(to_bytes(canvas)) for count, canvas in enumerate(draw_strokes(model, strokes, side, side)) if count in shown
    ]
    durations = [60] * (len(pictures) - 1) + [2000]
    with replacing(path) as temporary:
        pictures[0].save(temporary, save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=80)


def _measure(canvas: np.ndarray, targets: np.ndarray, size: int) -> pd.DataFrame:
    small = [resize(array, size, size) for array in (canvas, targets)]
    return pd.DataFrame(
        {
            "l2": l2(canvas, targets),
            "l2_canvas": l2(*small),
            "psnr": psnr(canvas, targets),
            "ssim": ssim(canvas, targets),
            "reward": reward(canvas, targets),
        }
    )
