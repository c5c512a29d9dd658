"""Stage: train the neural renderer to draw strokes as the exact one does.

Writes models/renderer.safetensors, models/rasteriser.{exact,neural}.json, reports/renderer.json and reports/renderer/
(loss curve; strokes drawn by both).
"""

import torch

from lpaint.files import write_json
from lpaint.plots import save_curves, save_image, sheet
from lpaint.renderer.networks import renderer_settings
from lpaint.renderer.training import RendererTraining
from lpaint.runtime.artifacts import RENDERER_FIGURES, RENDERER_REPORT, RENDERER_WEIGHTS, rasteriser_record
from lpaint.runtime.params import Params
from lpaint.runtime.provenance import digest_file
from lpaint.runtime.resume import find_resumable_key
from lpaint.tracking import Tracker
from lpaint.training.checkpoint import open_checkpoints
from lpaint.training.device import choose_compute, describe_compute, restore_threads
from lpaint.training.weights import save_weights
from stages.runner import run_stage


def run(params: Params, tracker: Tracker) -> None:
    """Train the renderer that ``params.renderer`` describes."""
    compute = choose_compute(params.base)
    # The rasteriser is not compiled here, so the key has no compile setting.
    key = {
        # Later settings are left out at their defaults, so that checkpoints of earlier versions are found.
        "renderer": params.renderer.model_dump(exclude_defaults=True),
        "stroke": params.stroke.model_dump(exclude_defaults=True),
        "seed": params.base.seed,
        "compute": compute.key(params.base),
    }
    # With threads 0 (all cores), earlier versions saved the number of cores.
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
        write_json(RENDERER_REPORT, report)
        save_weights(RENDERER_WEIGHTS, network, settings)
        for name, digest in (("exact", None), ("neural", digest_file(RENDERER_WEIGHTS))):
            write_json(rasteriser_record(name), {"rasteriser": name, "weights": digest})
        resume.clear()


@torch.no_grad()
def _write_figures(training: RendererTraining, tracker: Tracker) -> None:
    shape = training.validation_shapes[:16]
    rows = [training.draw(shape), training.network(shape)]
    image = sheet([list(row.unsqueeze(1).expand(-1, 3, -1, -1).cpu().numpy()) for row in rows])
    save_image(RENDERER_FIGURES / "teacher_student.png", image)
    tracker.log_image("teacher_student", image)
    curve = training.progress.curve
    update = [row["update"] for row in curve]
    series = {name: (update, [row[name] for row in curve]) for name in ("train_l2", "l1", "l2")}
    save_curves(
        RENDERER_FIGURES / "loss.png", "Neural renderer against the exact one", "update", "error", series, log_y=True
    )
    tracker.log_artifact(RENDERER_FIGURES / "loss.png")


def main() -> None:
    run_stage("pretrain_renderer", run, [RENDERER_WEIGHTS])


if __name__ == "__main__":
    main()
