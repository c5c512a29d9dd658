"""Stage: judge the agent on the validation split and, in the same way, on the test split.

The validation figures are for choosing: between settings, and of the champion (``lpaint promote``). The test figures
are for reporting what was chosen.

Writes reports/evaluation.json (both splits) and, of the test split, reports/evaluation/ (per-image parquet, sheets,
plots, time-lapses).
"""

from pathlib import Path
from typing import Any

from lpaint.agent.torch_model import TorchPaintingModel, load_actor
from lpaint.data.dataset import PreparedData
from lpaint.errors import ParamsError
from lpaint.evaluation import METRICS, Evaluation, evaluate, neural_gap, replacing_folder, summarise, write_figures
from lpaint.files import write_json
from lpaint.painting.engine.search import episode_strokes
from lpaint.renderer.networks import load_renderer
from lpaint.runtime.params import Params
from lpaint.runtime.provenance import find_producing_run
from lpaint.tracking import FINAL_VALIDATION, Tracker
from lpaint.training.device import choose_compute
from stages.runner import run_stage

DATA = Path("data/prepared")
ACTOR = Path("models/actor.safetensors")
RENDERER = Path("models/renderer.safetensors")
REPORT = Path("reports/evaluation.json")
FOLDER = Path("reports/evaluation")


def run(params: Params, tracker: Tracker) -> None:
    """Evaluate the trained actor; see the module's text for the outputs.

    Raises:
        DataError: the prepared data are missing or damaged, or a split is empty.
        ModelError: the actor or the renderer is missing or damaged.
        ParamsError: the actor was trained for another protocol than ``evaluate.protocol``.
        DeviceError: the device asked for is not there.
    """
    data = PreparedData.load(DATA)
    data.split("test")
    actor, settings = load_actor(ACTOR)
    renderer = load_renderer(RENDERER)
    model = TorchPaintingModel(actor, settings, choose_compute(params.base))
    if model.protocol != params.evaluate.protocol:
        raise ParamsError(
            f"evaluate.protocol is {params.evaluate.protocol}, but {ACTOR} was trained and validated by "
            f"{model.protocol}; run `dvc repro train_agent`, or set it to {model.protocol}"
        )
    validation = summarise(_judge(params, data, model, "validation"))
    evaluation = _judge(params, data, model, "test")
    summary = summarise(evaluation) | {"validation": validation}
    summary |= {"protocol": model.protocol, "effort": params.evaluate.effort}
    summary["left_out"] = sorted(set(params.evaluate.strokes) - set(evaluation.budgets))
    summary["neural_gap"] = neural_gap(renderer, model.family, evaluation.strokes, model.max_steps * model.bundle)
    with replacing_folder(FOLDER) as folder:
        write_figures(evaluation, model, folder, params.evaluate.timelapses)
    write_json(REPORT, summary)
    _track(summary, tracker)
    _track(summary, tracker.for_run(find_producing_run(ACTOR)))
    _print_table(summary["validation"], "validation")
    _print_table(summary, "test")
    if summary["left_out"]:
        budgets = ", ".join(map(str, summary["left_out"]))
        print(f"strokes {budgets} are left out: the agent's episode ends after {episode_strokes(model)}")


def _judge(params: Params, data: PreparedData, model: TorchPaintingModel, split: str) -> Evaluation:
    rows = data.split(split)[: params.evaluate.images or None]
    return evaluate(model, data.images, rows, data.names(rows), params.evaluate.strokes, params.evaluate.effort)


def _track(summary: dict[str, Any], tracker: Tracker) -> None:
    for prefix, judged in (("test", summary), (FINAL_VALIDATION, summary["validation"])):
        for strokes, metrics in judged["strokes"].items():
            means = {f"{prefix}/{name}": metrics[name]["mean"] for name in METRICS}
            tracker.log_metrics(means | {f"{prefix}/used": metrics["used"]}, int(strokes))
    tracker.log_metrics({f"test/neural_gap_{name}": value for name, value in summary["neural_gap"].items()})
    tracker.log_artifact(REPORT)
    for path in sorted(FOLDER.iterdir()):
        tracker.log_artifact(path, "evaluation")


def _print_table(judged: dict[str, Any], split: str) -> None:
    print(f"{judged['images']} {split} images at {judged['size']} px, means")
    print("strokes" + f"{'used':>9}" + "".join(f"{name:>11}" for name in METRICS))
    for strokes, metrics in judged["strokes"].items():
        print(f"{strokes:>7}{metrics['used']:9.1f}" + "".join(f"{metrics[name]['mean']:11.5f}" for name in METRICS))


def main() -> None:
    run_stage("evaluate", run)


if __name__ == "__main__":
    main()
