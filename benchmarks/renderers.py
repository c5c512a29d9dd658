"""Compare neural renderers at equal updates and at equal time: `python benchmarks/renderers.py`.

Every network is trained on one thread, so that parallel runs take the same processor time. Writes
docs/study/renderers.json and renderers.png (validation L2 by processor seconds), and prints the table.
"""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer

from lpaint.plots import save_curves
from lpaint.renderer.training import RendererTraining, RendererTrainState
from lpaint.runtime.params import Params, load_params
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import Compute, choose_compute

ROOT = Path(__file__).parents[1]
VARIANTS: dict[str, dict[str, Any]] = {
    "published, as published": {"network": "published", "loss": "l2", "learning_rate": 1e-4},
    "published, cross-entropy": {"network": "published", "loss": "cross_entropy", "learning_rate": 1e-3},
    "published, cross-entropy, 2e-3": {"network": "published", "loss": "cross_entropy", "learning_rate": 2e-3},
    "enhanced": {"network": "enhanced", "loss": "cross_entropy", "learning_rate": 2e-3},
}


def train(params: Params, compute: Compute, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one variant. Returns its curve, its size, and the time per stroke."""
    renderer = params.renderer.model_copy(update=settings)
    clock: list[float] = []
    with TemporaryDirectory() as folder:
        variant = params.model_copy(update={"renderer": renderer})
        training = RendererTraining(variant, compute, CheckpointManager(Path(folder)), NullTracker())
        started = time.process_time()

        def note(progress: RendererTrainState) -> None:
            if len(progress.curve) > len(clock):
                clock.append(time.process_time() - started)

        network = training.run(note)
    curve = [{**row, "seconds": seconds} for row, seconds in zip(training.progress.curve, clock, strict=True)]
    tail = [row["l2"] for row in curve[-max(2, len(curve) // 4) :]]
    return {
        "settings": settings,
        "weights": sum(parameter.numel() for parameter in network.parameters()),
        "milliseconds_a_stroke": _milliseconds_per_stroke(training, network),
        "l1": curve[-1]["l1"],
        "l2": curve[-1]["l2"],
        "tail_variance": float(np.var(tail)),
        "curve": curve,
    }


@torch.no_grad()
def _milliseconds_per_stroke(training: RendererTraining, network: torch.nn.Module) -> float:
    """Milliseconds per stroke in a batch of 64, median of 20 runs."""
    shape, times = training.validation_shapes[:64], []
    for _ in range(20):
        started = time.perf_counter()
        network(shape)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1000 / len(shape)


def at_time(curve: list[dict[str, float]], seconds: float) -> float:
    """Validation L2 of the last point within ``seconds``."""
    return [row["l2"] for row in curve if row["seconds"] <= seconds][-1]


def main(
    updates: Annotated[int, typer.Option(min=200, help="Optimiser steps of each variant.")] = 1600,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = ROOT / "docs/study",
) -> None:
    """Train and compare all variants."""
    params = load_params(ROOT / "params.yaml")
    schedule = {"updates": updates, "validate_every": max(1, updates // 16), "checkpoint_every": updates}
    params = params.model_copy(
        update={
            "renderer": params.renderer.model_copy(update=schedule),
            "base": params.base.model_copy(update={"threads": 1}),
        }
    )
    compute = choose_compute(params.base)
    results = {name: train(params, compute, settings) for name, settings in VARIANTS.items()}
    shortest = min(result["curve"][-1]["seconds"] for result in results.values())
    header = f"L2 at {shortest:.0f} s"
    print(f"{'':32}{'weights':>10}{'ms/stroke':>11}{'L1':>9}{'L2':>9}{header:>13}{'tail var.':>11}")
    for name, result in results.items():
        result["l2_at_equal_time"] = at_time(result["curve"], shortest)
        print(
            f"{name:32}{result['weights']:10}{result['milliseconds_a_stroke']:11.3f}{result['l1']:9.5f}"
            f"{result['l2']:9.5f}{result['l2_at_equal_time']:13.5f}{result['tail_variance']:11.1e}"
        )
    out.mkdir(parents=True, exist_ok=True)
    report = {"updates": updates, "compute": compute.as_dict(), "seconds_compared": shortest, "variants": results}
    (out / "renderers.json").write_text(json.dumps(report, indent=2) + "\n")
    for name, key in (("renderers.png", "l2"), ("renderers_train.png", "train_l2")):
        series = {
            variant: ([row["seconds"] for row in result["curve"]], [row[key] for row in result["curve"]])
            for variant, result in results.items()
        }
        title = f"Neural renderers: {'validation' if key == 'l2' else 'training'} L2 over {updates} updates"
        save_curves(out / name, title, "processor seconds", "L2", series, log_y=True)


if __name__ == "__main__":
    typer.run(main)
