"""Sections of `benchmarks/gpu.py` on the trained actor: export, evaluation, and painting with ONNX Runtime."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image

from benchmarks.gpu_setup import Findings, Job, compute_for, milliseconds, on_gpu, rounded
from benchmarks.gpu_training import training_params
from lpaint.agent.torch_model import TorchPaintingModel, load_actor
from lpaint.bench.painting import bench_painting
from lpaint.data import synthetic
from lpaint.data.dataset import PreparedData
from lpaint.evaluation import evaluate as evaluate_model
from lpaint.evaluation import summarise
from lpaint.export.onnx import (
    actor_metadata,
    export_actor,
    export_outline,
    export_rasteriser,
    export_renderer,
    parity_report,
)
from lpaint.painting.gpu import find_gpu
from lpaint.painting.onnx_model import OnnxPainter, packaged_model
from lpaint.renderer.networks import load_renderer
from lpaint.runtime.artifacts import (
    ACTOR_ONNX,
    ACTOR_WEIGHTS,
    EXPORTS,
    OUTLINE_ONNX,
    PREPARED_DATA,
    RASTERISER_ONNX,
    RENDERER_ONNX,
    RENDERER_WEIGHTS,
)
from lpaint.strokes import get_family

_BATCHES = (1, 8, 9, 64, 128)
# Images of the CPU's evaluation beside a GPU: enough for its time.
_CPU_IMAGES = 4
_STROKES = 64
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_COMMAND_LIMIT = 40


def export(job: Job, findings: Findings) -> None:
    """Export the trained actor in both precisions and compare it with torch."""
    opset = job.params().export.opset
    actor, spec = load_actor(ACTOR_WEIGHTS)
    family = get_family(spec.family)
    EXPORTS.mkdir(exist_ok=True)
    renderer = load_renderer(RENDERER_WEIGHTS)
    export_rasteriser(family, RASTERISER_ONNX, opset)
    export_outline(family, OUTLINE_ONNX, opset)
    export_renderer(renderer, family, RENDERER_ONNX, opset)
    metadata = actor_metadata(spec, family, "", "")
    # The file in fp32 stays, for the section `ort`.
    for name, half in (("fp16", True), ("fp32", False)):
        with findings.attempt(name):
            export_actor(actor, ACTOR_ONNX, opset, metadata, RASTERISER_ONNX, OUTLINE_ONNX, half)
            parity = parity_report(actor, renderer, family, EXPORTS, half)
            findings[name] = {"MB": rounded(ACTOR_ONNX.stat().st_size / 1e6), "parity": parity}


def evaluate(job: Job, findings: Findings) -> None:
    """Errors of the trained actor on test images, and the share of the time that its two calls of torch take."""
    data, params = PreparedData.load(PREPARED_DATA), training_params(job, 100)
    actor, spec = load_actor(ACTOR_WEIGHTS)
    test = data.split("test")
    for device in ("cuda", "cpu") if on_gpu() else ("cpu",):
        with findings.attempt(device):
            beside = device == "cpu" and on_gpu()
            rows = test[: _CPU_IMAGES if beside else params.evaluate.images]
            model = _TimedModel(actor, spec, compute_for(params, device=device))
            started = time.perf_counter()
            budgets, effort = params.evaluate.strokes, params.evaluate.effort
            evaluation = evaluate_model(model, data.images, rows, data.names(rows), budgets, effort)
            seconds = time.perf_counter() - started
            errors = summarise(evaluation)["strokes"]
            findings[device] = {
                "images": len(rows),
                "an image, s": rounded(seconds / len(rows)),
                "calls and seconds": {name: [count, rounded(spent)] for name, (count, spent) in model.spent.items()},
                "l2": {budget: row["l2"]["mean"] for budget, row in errors.items()},
                "ssim": {budget: row["ssim"]["mean"] for budget, row in errors.items()},
            }


class _TimedModel(TorchPaintingModel):
    """Counts calls and their seconds; both calls end with a copy to the CPU, so the GPU is idle afterwards."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.spent = {"act": (0, 0.0), "rasterise": (0, 0.0)}

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        strokes = super().act(canvas, target, fraction)
        self._count("act", started)
        return strokes

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        opacity = super().rasterise(shape, rows, columns, pixel_size)
        self._count("rasterise", started)
        return opacity

    def _count(self, name: str, started: float) -> None:
        count, seconds = self.spent[name]
        self.spent[name] = count + 1, seconds + time.perf_counter() - started


def ort(job: Job, findings: Findings) -> None:
    """ONNX Runtime on CPU and GPU, with the packaged and the trained actor; the command `lpaint paint`."""
    gpu = find_gpu()
    findings["runtime"] = {
        "version": onnxruntime.__version__,
        "folder": str(Path(onnxruntime.__file__).parent),
        "providers": onnxruntime.get_available_providers(),
        # ONNX Runtime uses the CUDA libraries that torch has loaded.
        "torch": torch.__version__,
        "why not on the GPU": gpu.problem,
    }
    models = {"packaged": packaged_model()} | ({"trained": ACTOR_ONNX} if ACTOR_ONNX.exists() else {})
    devices = ("cpu",) if gpu.problem else ("cuda", "cpu")
    for name, path in models.items():
        for device in devices:
            with findings.attempt(f"{name}, {device}"):
                findings[f"{name}, {device}"] = _time_model(OnnxPainter(path, device))
    image = Path("exports/portrait.png")
    EXPORTS.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(synthetic.draw(7, 0, 256))).save(image)
    for device in ("auto", *devices):
        findings[f"lpaint paint, {device}"] = _paint(image, device, 10 if job.smoke else 200)
    # Last: these take longest.
    for name, path in models.items() if not job.smoke else ():
        for device in devices:
            with findings.attempt(f"{name}, {device}, paintings"):
                rows = bench_painting(path, device, 0, 1).rows
                findings[f"{name}, {device}, paintings, s"] = {row.name: rounded(row.value) for row in rows}


def _time_model(model: OnnxPainter) -> dict[str, Any]:
    """First and third call of the actor at several batch sizes; the rasteriser for one stroke and for 64."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for batch in _BATCHES:
        canvas, target = rng.random((2, batch, 3, model.canvas, model.canvas), np.float32)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            model.act(canvas, target, np.zeros(batch, np.float32))
            times.append(rounded((time.perf_counter() - started) * 1000))
        found[f"actor, batch {batch}, ms"] = {"first": times[0], "third": times[2]}
    shape = rng.random((_STROKES, model.parameters - 3), np.float32)
    centres = np.tile((np.arange(64, dtype=np.float32) + 0.5) / 64, (_STROKES, 1))
    pixel = np.full((_STROKES, 2), 1 / 64, np.float32)
    for count in (1, _STROKES):
        arrays = shape[:count], centres[:count], centres[:count], pixel[:count]
        model.rasterise(*arrays)
        median = milliseconds(lambda arrays=arrays: model.rasterise(*arrays), 5)["median"]  # type: ignore[misc]
        found[f"rasteriser, {count} at 64 px, ms"] = median
    return found


def _paint(image: Path, device: str, strokes: int) -> dict[str, Any]:
    """The command as a user runs it, in a process without torch: standard output must be the PNG and nothing else."""
    arguments = ["paint", str(image), "--device", device, "--strokes", str(strokes), "-o", "-"]
    command = [sys.executable, "-c", "from lpaint.cli import main; main()", *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False, timeout=_COMMAND_LIMIT)
    clean = done.stdout.startswith(_PNG_START) and done.stdout.endswith(_PNG_END)
    found: dict[str, Any] = {
        "exit code": done.returncode,
        "s": rounded(time.perf_counter() - started),
        "standard output is one PNG": clean,
        "standard error": done.stderr.decode(errors="replace")[-400:],
    }
    if done.returncode or not clean:
        found["error"] = "the command failed, or wrote more than the PNG to standard output"
    return found
