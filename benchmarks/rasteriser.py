"""The exact rasteriser against the usual way to draw a stroke: `python benchmarks/rasteriser.py`.

The usual way, of the 2019 code and all that follow it, draws 100 filled circles with OpenCV on a canvas of double size
and shrinks it: one stroke at a time, on one thread. Ours draws a batch. Both draw the same random Bézier strokes, in
turns, and the medians are compared. Needs `pip install opencv-python-headless`, which nothing else here does.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from lpaint.strokes import exact_rasteriser, family_names, get_family

# Side in pixels, and strokes a batch.
SIZES = {64: 512, 128: 256, 512: 16}


def main(
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of our rasteriser.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    repetitions: Annotated[int, typer.Option(min=1)] = 9,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
) -> None:
    """Print milliseconds a stroke, and how many times faster ours is; then every family's time at 64 px."""
    try:
        import cv2
    except ModuleNotFoundError:
        raise SystemExit("error: OpenCV is missing; pip install opencv-python-headless") from None
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    family = get_family("bezier")
    report: dict[str, dict[str, float]] = {}
    print(f"ms a stroke, {threads} threads of ours on {device}\n{'px':>5}{'circles':>10}{'ours':>10}{'ratio':>8}")
    for size, count in SIZES.items():
        shape = family.sample(count, torch.Generator().manual_seed(0))
        ours = _drawing(exact_rasteriser(family, size, compiled=True), shape.to(device))
        theirs = [
            lambda shapes=shape.numpy()[:64], size=size: [circles(cv2, one, size) for one in shapes],
            ours,
        ]
        slow, fast = _medians(theirs, repetitions)
        slow, fast = slow / min(count, 64) * 1000, fast / count * 1000
        report[str(size)] = {"circles": slow, "ours": fast, "ratio": slow / fast}
        print(f"{size:5}{slow:10.4f}{fast:10.4f}{slow / fast:8.1f}")
    print(f"\n{'family':>14}{'draw':>10}{'and learn':>11}   ms a stroke at 64 px")
    for name in family_names():
        shape = get_family(name).sample(512, torch.Generator().manual_seed(0)).to(device)
        draw = exact_rasteriser(get_family(name), 64, compiled=True)
        times = _medians([_drawing(draw, shape), _learning(draw, shape)], repetitions)
        drawing, learning = (seconds / len(shape) * 1000 for seconds in times)
        report[name] = {"draw": drawing, "draw_and_gradient": learning}
        print(f"{name:>14}{drawing:10.4f}{learning:11.4f}")
    if json_file is not None:
        figures = {"threads": threads, "device": device, "repetitions": repetitions, "milliseconds": report}
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def circles(cv2, shape: np.ndarray, size: int) -> np.ndarray:
    """One Bézier stroke [10] as 100 circles on a canvas of double size, shrunk: [size, size]."""
    x0, y0, x1, y1, x2, y2, r0, r1, t0, t1 = map(float, shape)
    side = 2 * size
    x1, y1 = x0 + (x2 - x0) * x1, y0 + (y2 - y0) * y1
    x0, y0, x1, y1, x2, y2 = (int(place * (side - 1) + 0.5) for place in (x0, y0, x1, y1, x2, y2))
    start, end = int(1 + r0 * size // 2), int(1 + r1 * size // 2)
    canvas = np.zeros((side, side), np.float32)
    for i in range(100):
        t = i / 100
        row = int((1 - t) * (1 - t) * x0 + 2 * t * (1 - t) * x1 + t * t * x2)
        column = int((1 - t) * (1 - t) * y0 + 2 * t * (1 - t) * y1 + t * t * y2)
        cv2.circle(canvas, (column, row), int((1 - t) * start + t * end), (1 - t) * t0 + t * t1, -1)
    return cv2.resize(canvas, (size, size))


def _drawing(draw: Callable[[torch.Tensor], torch.Tensor], shape: torch.Tensor) -> Callable[[], object]:
    @torch.no_grad()
    def run() -> None:
        draw(shape)
        _finish(shape)

    return run


def _learning(draw: Callable[[torch.Tensor], torch.Tensor], shape: torch.Tensor) -> Callable[[], object]:
    def run() -> None:
        draw(shape.requires_grad_()).square().sum().backward()
        _finish(shape)

    return run


def _finish(shape: torch.Tensor) -> None:
    if shape.is_cuda:
        torch.cuda.synchronize()


def _medians(actions: list[Callable[[], object]], repetitions: int) -> list[float]:
    """Median seconds of each action, run in turns so that a busy moment meets all of them."""
    for action in (*actions, *actions):
        action()
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(repetitions):
        for action, times in zip(actions, seconds, strict=True):
            started = time.perf_counter()
            action()
            times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in seconds]


if __name__ == "__main__":
    typer.run(main)
