"""Stage: teach the neural renderer to draw strokes.

Writes models/renderer.safetensors, models/rasteriser.{exact,neural}.json, reports/renderer.json and reports/renderer/
(loss curve, teacher beside student).
"""

from pathlib import Path

import torch

from lpaint.files import write_json
from lpaint.plots import save_curves, save_image, sheet
from lpaint.renderer.networks import renderer_settings
from lpaint.renderer.training import RendererTraining
from lpaint.runtime.params import Params
from lpaint.runtime.provenance import digest_file
from lpaint.runtime.resume import find_resumable_key
from lpaint.tracking import Tracker
from lpaint.training.checkpoint import open_checkpoints
from lpaint.training.device import choose_compute, describe_compute, restore_threads
from lpaint.training.weights import save_weights
from stages.runner import run_stage

MODEL = Path("models/renderer.safetensors")
# What train_agent depends on, by agent.renderer: only a neural one changes with the weights.
RASTERISERS = Path("models")
REPORT = Path("reports/renderer.json")
FIGURES = Path("reports/renderer")


def run(params: Params, tracker: Tracker) -> None:
    """Pretrain the renderer that ``params.renderer`` describes; see the module's text for the outputs."""
    compute = choose_compute(params.base)
    # Strokes are drawn by the plain rasteriser, so whether it could be compiled does not key this training.
    key = {
        # A setting at its default that came later than the others is left out: earlier checkpoints are found.
        "renderer": params.renderer.model_dump(exclude_defaults=True),
        "stroke": params.stroke.model_dump(exclude_defaults=True),
        "seed": params.base.seed,
        "compute": compute.key(params.base),
    }
    # Earlier versions named the threads that were found, where as many as there are cores were asked for.
    key = find_resumable_key("pretrain_renderer", key, key | {"compute": compute.as_dict()})
    with open_checkpoints("pretrain_renderer", key) as resume:
        compute = restore_threads(compute, resume.directory, bool(resume.checkpoints))
        tracker.resume_from(resume.directory)
        print(f"pretrain_renderer {describe_compute(params.base, compute)}", flush=True)
        training = RendererTraining(params, compute, resume, tracker)
        network = training.run()
        settings = renderer_settings(params.renderer, params.stroke)
        _write_figures(training, tracker)
        final = training.progress.curve[-1]
        parameters = sum(parameter.numel() for parameter in network.parameters())
        report = {"l1": final["l1"], "l2": final["l2"], "updates": params.renderer.updates, "parameters": parameters}
        write_json(REPORT, report)
        save_weights(MODEL, network, settings)
        for name, digest in (("exact", None), ("neural", digest_file(MODEL))):
            write_json(RASTERISERS / f"rasteriser.{name}.json", {"rasteriser": name, "weights": digest})
        resume.clear()


@torch.no_grad()
def _write_figures(training: RendererTraining, tracker: Tracker) -> None:
    shape = training.validation_shapes[:16]
    rows = [training.draw(shape), training.network(shape)]
    picture = sheet([list(row.unsqueeze(1).expand(-1, 3, -1, -1).cpu().numpy()) for row in rows])
    save_image(FIGURES / "teacher_student.png", picture)
    tracker.log_image("teacher_student", picture)
    curve = training.progress.curve
    update = [row["update"] for row in curve]
    series = {name: (update, [row[name] for row in curve]) for name in ("train_l2", "l1", "l2")}
    save_curves(FIGURES / "loss.png", "Neural renderer against the exact one", "update", "error", series, log_y=True)
    tracker.log_artifact(FIGURES / "loss.png")


def main() -> None:
    run_stage("pretrain_renderer", run, [MODEL])


if __name__ == "__main__":
    main()
