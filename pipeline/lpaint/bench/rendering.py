"""``lpaint bench render``: speed of the exact rasteriser, against OpenCV's circles if OpenCV is installed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpaint.bench.timing import Report, interleaved
from lpaint.bench.training import synchronizer
from lpaint.strokes import Rasteriser, exact_rasteriser, family_names, get_family
from lpaint.training.device import Compute

# Side in pixels: strokes per batch.
_SIZES = {64: 512, 128: 256, 512: 16}
_CIRCLES = 16


def bench_rendering(compute: Compute, repeats: int) -> Report:
    """Milliseconds per stroke: Bézier at three sizes, and every family at 64 px, forward and with its gradient.

    The baseline is that of the 2019 code: 100 filled circles, drawn with OpenCV on a canvas of double size that is then
    shrunk, one stroke at a time on one thread. It runs on the same random strokes if ``cv2`` (opencv-python-headless)
    can be imported; nothing else in lpaint needs it.
    """
    circles = _opencv()
    sizes = {"device": compute.device, "threads": compute.threads, "compiled": compute.compile, "repeats": repeats}
    report = Report("render", sizes)
    family = get_family("bezier")
    for size, count in _SIZES.items():
        shape = family.sample(count, torch.Generator().manual_seed(0))
        draw = exact_rasteriser(family, size, compute.compile)
        actions: dict[str, Callable[[], Any]] = {"ours": _drawing(draw, shape.to(compute.device))}
        if circles is not None:
            actions["circles"] = _circling(circles, shape[:_CIRCLES].numpy(), size)
        seconds = interleaved(actions, repeats, synchronizer(compute))
        ours = seconds["ours"] / count * 1000
        report.add(f"bezier, {size} px", ours, "ms")
        if circles is not None:
            theirs = seconds["circles"] / min(count, _CIRCLES) * 1000
            report.add(f"100 OpenCV circles, {size} px", theirs, "ms")
            report.add(f"ratio, {size} px", theirs / ours, "")
    for name in family_names():
        shape = get_family(name).sample(512, torch.Generator().manual_seed(0)).to(compute.device)
        draw = exact_rasteriser(get_family(name), 64, compute.compile)
        seconds = interleaved(
            {"": _drawing(draw, shape), " and back": _differentiating(draw, shape)}, repeats, synchronizer(compute)
        )
        for what, value in seconds.items():
            report.add(f"{name}{what}, 64 px", value / len(shape) * 1000, "ms")
    return report


def _opencv() -> Any:
    try:
        import cv2
    except ModuleNotFoundError:
        return None
    cv2.setNumThreads(1)
    return cv2


def _circling(cv2: Any, shapes: np.ndarray, size: int) -> Callable[[], Any]:
    return lambda: [draw_circles(cv2, shape, size) for shape in shapes]


def draw_circles(cv2: Any, shape: np.ndarray, size: int) -> np.ndarray:
    """Draw one Bézier stroke [10] as 100 circles on a canvas of double size, shrunk to [size, size]."""
    x0, y0, x1, y1, x2, y2, r0, r1, t0, t1 = map(float, shape)
    x1, y1 = x0 + (x2 - x0) * x1, y0 + (y2 - y0) * y1
    pixels = (int(value * (2 * size - 1) + 0.5) for value in (x0, y0, x1, y1, x2, y2))
    row0, column0, row1, column1, row2, column2 = pixels
    start, end = int(1 + r0 * size // 2), int(1 + r1 * size // 2)
    canvas = np.zeros((2 * size, 2 * size), np.float32)
    for i in range(100):
        t = i / 100
        row = int((1 - t) ** 2 * row0 + 2 * t * (1 - t) * row1 + t * t * row2)
        column = int((1 - t) ** 2 * column0 + 2 * t * (1 - t) * column1 + t * t * column2)
        cv2.circle(canvas, (column, row), int((1 - t) * start + t * end), (1 - t) * t0 + t * t1, -1)
    return cv2.resize(canvas, (size, size))


def _drawing(draw: Rasteriser, shape: Tensor) -> Callable[[], Any]:
    @torch.no_grad()
    def run() -> None:
        draw(shape)

    return run


def _differentiating(draw: Rasteriser, shape: Tensor) -> Callable[[], Any]:
    leaf = shape.clone().requires_grad_()
    return lambda: torch.autograd.grad(draw(leaf).square().sum(), leaf)
