"""Stage: judge the agent on the test split.

Writes reports/evaluation.json and reports/evaluation/ (per-image parquet, sheets, plots, time-lapses).
"""

from pathlib import Path
from typing import Any

from lpaint.agent.model import TorchPaintingModel, load_actor
from lpaint.data.dataset import PreparedData
from lpaint.device import choose_compute
from lpaint.evaluation import METRICS, evaluate, neural_gap, replacing_folder, summarise, write_figures
from lpaint.files import write_json
from lpaint.params import Params
from lpaint.provenance import find_producer
from lpaint.renderer.networks import load_renderer
from lpaint.stage import run_stage
from lpaint.tracking import Tracker

DATA = Path("data/prepared")
ACTOR = Path("models/actor.safetensors")
RENDERER = Path("models/renderer.safetensors")
REPORT = Path("reports/evaluation.json")
FOLDER = Path("reports/evaluation")


def run(params: Params, tracker: Tracker) -> None:
    """Evaluate the trained actor; see the module's text for the outputs.

    Raises:
        DataError: the prepared data are missing or damaged, or have no test image.
        ModelError: the actor or the renderer is missing or damaged.
        DeviceError: the device asked for is not there.
    """
    data = PreparedData.load(DATA)
    rows = data.split("test")[: params.evaluate.images or None]
    actor, settings = load_actor(ACTOR)
    renderer = load_renderer(RENDERER)
    model = TorchPaintingModel(actor, settings, choose_compute(params.base))
    evaluation = evaluate(model, data.images, rows, data.names(rows), params.evaluate.strokes, params.evaluate.effort)
    summary = summarise(evaluation) | {"effort": params.evaluate.effort}
    summary["neural_gap"] = neural_gap(renderer, model.family, evaluation.strokes, model.max_steps * model.bundle)
    with replacing_folder(FOLDER) as folder:
        write_figures(evaluation, model, folder, params.evaluate.timelapses)
    write_json(REPORT, summary)
    _track(summary, tracker)
    _track(summary, tracker.for_run(find_producer(ACTOR)))
    _print_table(summary)


def _track(summary: dict[str, Any], tracker: Tracker) -> None:
    for strokes, metrics in summary["strokes"].items():
        tracker.log_metrics({f"test/{name}": metrics[name]["mean"] for name in METRICS}, int(strokes))
    tracker.log_metrics({f"test/neural_gap_{name}": value for name, value in summary["neural_gap"].items()})
    tracker.log_artifact(REPORT)
    for path in sorted(FOLDER.iterdir()):
        tracker.log_artifact(path, "evaluation")


def _print_table(summary: dict[str, Any]) -> None:
    print(f"{summary['images']} test images at {summary['size']} px, means")
    print("strokes" + "".join(f"{name:>11}" for name in METRICS))
    for strokes, metrics in summary["strokes"].items():
        print(f"{strokes:>7}" + "".join(f"{metrics[name]['mean']:11.5f}" for name in METRICS))
    gap = summary["neural_gap"]
    if gap["strokes"]:
        print(f"neural renderer off the exact one by L1 {gap['l1']}, L2 {gap['l2']} on {gap['strokes']} first strokes")


def main() -> None:
    run_stage("evaluate", run, [REPORT])


if __name__ == "__main__":
    main()
