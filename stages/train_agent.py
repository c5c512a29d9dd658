"""Stage: train the agent to paint.

Writes models/actor.safetensors, reports/training.json and reports/training/ (curve.csv, plots).
``torchrun --nproc-per-node=N -m stages.train_agent`` trains in N processes, of which rank 0 writes the files;
``agent.processes: N`` does the same without torchrun.
"""

import csv
from typing import Any

from lpaint.agent.state import TrainState
from lpaint.agent.torch_model import save_actor
from lpaint.agent.trainer import AgentTraining
from lpaint.data.dataset import PreparedData
from lpaint.files import atomic_write, write_json
from lpaint.plots import save_curves
from lpaint.renderer.networks import canvas_rasterisers, load_renderer
from lpaint.runtime.artifacts import (
    ACTOR_WEIGHTS,
    PREPARED_DATA,
    RENDERER_WEIGHTS,
    TRAINING_FIGURES,
    TRAINING_REPORT,
)
from lpaint.runtime.params import Params, load_params
from lpaint.runtime.provenance import digest_file
from lpaint.runtime.resume import find_resumable_key
from lpaint.strokes import get_family
from lpaint.tracking import Tracker
from lpaint.training import distributed
from lpaint.training.checkpoint import open_checkpoints
from lpaint.training.device import Compute, choose_compute, describe_compute, restore_threads, set_threads
from stages.runner import report_errors, run_stage


def run(params: Params, tracker: Tracker) -> None:
    """Train the agent that ``params.agent`` describes."""
    data = PreparedData.load(PREPARED_DATA)
    compute = choose_compute(params.base)
    renderer = digest_file(RENDERER_WEIGHTS) if params.agent.renderer == "neural" else None
    keys = resume_keys(params, compute, data.digest, renderer)
    # Rank 0 chooses the key, because each machine has resume folders of its own.
    key = distributed.broadcast(find_resumable_key("train_agent", *keys))
    with open_checkpoints("train_agent", key, distributed.is_main()) as resume:
        if distributed.is_main():
            compute = restore_threads(compute, resume.directory, bool(resume.checkpoints))
        distributed.wait_for_main()
        compute = set_threads(compute, distributed.broadcast(compute.threads))
        distributed.check_equal(keys[0])
        tracker.resume_from(resume.directory)
        used = compute.as_dict() | {"ranks": distributed.world_size()}
        tracker.log_params({f"compute.{name}": value for name, value in used.items()})
        network = load_renderer(RENDERER_WEIGHTS) if params.agent.renderer == "neural" else None
        rasterisers = canvas_rasterisers(get_family(params.stroke.family), compute, network)
        training = AgentTraining(params, data, compute, rasterisers, resume, tracker)
        if distributed.is_main():
            print(f"train_agent {describe_compute(params.base, compute)}", flush=True)
        result = training.run()
        if not distributed.is_main():
            return
        _write_curve(result.progress, tracker)
        write_json(TRAINING_REPORT, _report(result.progress, params))
        save_actor(ACTOR_WEIGHTS, result.actor, result.spec)
        resume.clear()


def resume_keys(params: Params, compute: Compute, data: str, renderer: str | None) -> list[dict[str, Any]]:
    """Keys of a training's checkpoints, as written now and by earlier versions: all that decides how it continues.

    Later settings are left out at their defaults, so that checkpoints of earlier versions are found.

    Args:
        params: all parameters.
        compute: device, precision, threads.
        data, renderer: digests of the prepared images and of the renderer's weights (None if it is exact).
    """
    key = {
        "agent": params.agent.model_dump(exclude={"processes"}, exclude_defaults=True),
        "stroke": params.stroke.model_dump(exclude_defaults=True),
        "seed": params.base.seed,
        "data": data,
        "renderer": renderer,
        "compute": compute.key(params.base),
        "ranks": distributed.world_size(),
    }
    if params.evaluate.protocol != "search":
        key["protocol"] = params.evaluate.protocol
    # With threads 0 (all cores), earlier versions saved the number of cores.
    return [key, key | {"compute": compute.as_dict()}]


def _report(progress: TrainState, params: Params) -> dict[str, Any]:
    best = min(progress.curve, key=lambda row: row["l2"])
    return {
        "best": {name: best[name] for name in ("update", "l2", "psnr", "reward")},
        "final": {name: progress.curve[-1][name] for name in ("update", "l2", "psnr", "reward")},
        "strokes": params.validation_strokes,
        "transitions": progress.transitions,
        "samples": progress.update * params.agent.batch_size,
    }


def _write_curve(progress: TrainState, tracker: Tracker) -> None:
    curve = progress.curve
    with (
        atomic_write(TRAINING_FIGURES / "curve.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, curve[0].keys())
        writer.writeheader()
        writer.writerows(curve)
    update = [row["update"] for row in curve]
    for name, title in (("l2", "Validation L2"), ("reward", "Validation reward (L_0 - L_T) / L_0")):
        series = {name: (update, [row[name] for row in curve])}
        save_curves(TRAINING_FIGURES / f"{name}.png", title, "update", name, series, log_y=name == "l2")
    for path in sorted(TRAINING_FIGURES.iterdir()):
        tracker.log_artifact(path)


def main() -> None:
    with report_errors("train_agent"):
        distributed.launch("stages.train_agent", load_params().agent.processes)
    run_stage("train_agent", run, [ACTOR_WEIGHTS], distributed.process_group())


if __name__ == "__main__":
    main()
