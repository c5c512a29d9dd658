"""``lpaint bench paint``: seconds to paint images with an exported agent, without start-up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lpaint.bench.timing import Report, interleaved
from lpaint.data import synthetic
from lpaint.painting.engine.resample import resize
from lpaint.painting.onnx_model import OnnxPainter
from lpaint.painting.picture import Plan, paint_picture

# Height and width of the image, and the stroke budget.
_PAINTINGS = {
    "200 strokes at 128 x 128": (128, 128, Plan(strokes=200)),
    "500 strokes at 1024 x 768": (768, 1024, Plan(strokes=500)),
    "grid of 4 x 4 at 1024 x 768": (768, 1024, Plan(divide=4)),
}


def bench_painting(onnx: Path, device: str, threads: int, repeats: int) -> Report:
    """Seconds to paint a synthetic portrait at two sizes, with a stroke budget and on a grid."""
    model = OnnxPainter(onnx, device, threads)
    actions = {name: _painting(model, _portrait(*size), plan) for name, (*size, plan) in _PAINTINGS.items()}
    seconds = interleaved(actions, repeats, warm_ups=1)
    measured = {"model": str(onnx), "device": model.device, "threads": threads, "repeats": repeats}
    if model.gpu_problem:
        measured["GPU not used"] = model.gpu_problem
    report = Report("paint", measured)
    for name, value in seconds.items():
        report.add(name, value, "s")
    return report


def _painting(model: OnnxPainter, image: np.ndarray, plan: Plan) -> Callable[[], Any]:
    return lambda: paint_picture(model, image, plan).canvas(model)


def _portrait(height: int, width: int) -> np.ndarray:
    portrait = synthetic.draw(20_001, 0, max(height, width))
    return resize(np.asarray(portrait, np.float32).transpose(2, 0, 1) / 255, height, width)
