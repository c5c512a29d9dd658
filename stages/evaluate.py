"""Stage: evaluate the agent on the validation split and on the test split.

Use the validation figures to choose settings and the champion (``lpaint promote``). Use the test figures to report what
was chosen.

Writes reports/evaluation.json (both splits) and reports/evaluation/ (test split: per-image parquet, sheets, plots,
time-lapses).
"""

from typing import Any

from lpaint.agent.torch_model import TorchPaintingModel, load_actor
from lpaint.data.dataset import PreparedData
from lpaint.errors import ParamsError
from lpaint.evaluation import METRICS, Evaluation, evaluate, neural_gap, replacing_folder, summarise, write_figures
from lpaint.files import write_json
from lpaint.painting.engine.search import episode_strokes
from lpaint.renderer.networks import load_renderer
from lpaint.runtime.artifacts import (
    ACTOR_WEIGHTS,
    EVALUATION_FIGURES,
    EVALUATION_REPORT,
    PREPARED_DATA,
    RENDERER_WEIGHTS,
)
from lpaint.runtime.params import Params
from lpaint.runtime.provenance import find_producing_run
from lpaint.tracking import FINAL_VALIDATION, Tracker
from lpaint.training.device import choose_compute
from stages.runner import run_stage


def run(params: Params, tracker: Tracker) -> None:
    """Evaluate the trained actor.

    Raises:
        DataError: the prepared data are missing or damaged, or a split is empty.
        ModelError: the actor or the renderer is missing or damaged.
        ParamsError: the actor was trained by another protocol than ``evaluate.protocol``.
        DeviceError: ``base.device`` is not available.
    """
    data = PreparedData.load(PREPARED_DATA)
    data.split("test")
    actor, spec = load_actor(ACTOR_WEIGHTS)
    renderer = load_renderer(RENDERER_WEIGHTS)
    model = TorchPaintingModel(actor, spec, choose_compute(params.base))
    if model.protocol != params.evaluate.protocol:
        raise ParamsError(
            f"evaluate.protocol is {params.evaluate.protocol}, but {ACTOR_WEIGHTS} was trained and validated by "
            f"{model.protocol}; run `dvc repro train_agent`, or set it to {model.protocol}"
        )
    validation = summarise(_evaluate_split(params, data, model, "validation"))
    evaluation = _evaluate_split(params, data, model, "test")
    summary = summarise(evaluation) | {"validation": validation}
    summary |= {"protocol": model.protocol, "effort": params.evaluate.effort}
    summary["left_out"] = sorted(set(params.evaluate.strokes) - set(evaluation.budgets))
    summary["neural_gap"] = neural_gap(renderer, model.family, evaluation.strokes, spec.episode_strokes)
    with replacing_folder(EVALUATION_FIGURES) as folder:
        write_figures(evaluation, model, folder, params.evaluate.timelapses)
    write_json(EVALUATION_REPORT, summary)
    _track(summary, tracker)
    _track(summary, tracker.for_run(find_producing_run(ACTOR_WEIGHTS)))
    _print_table(summary["validation"], "validation")
    _print_table(summary, "test")
    if summary["left_out"]:
        budgets = ", ".join(map(str, summary["left_out"]))
        print(f"strokes {budgets} are left out: the agent's episode ends after {episode_strokes(model)}")


def _evaluate_split(params: Params, data: PreparedData, model: TorchPaintingModel, split: str) -> Evaluation:
    rows = data.split(split)[: params.evaluate.images or None]
    return evaluate(model, data.images, rows, data.names(rows), params.evaluate.strokes, params.evaluate.effort)


def _track(summary: dict[str, Any], tracker: Tracker) -> None:
    for prefix, part in (("test", summary), (FINAL_VALIDATION, summary["validation"])):
        for strokes, metrics in part["strokes"].items():
            means = {f"{prefix}/{name}": metrics[name]["mean"] for name in METRICS}
            tracker.log_metrics(means | {f"{prefix}/used": metrics["used"]}, int(strokes))
    tracker.log_metrics({f"test/neural_gap_{name}": value for name, value in summary["neural_gap"].items()})
    tracker.log_artifact(EVALUATION_REPORT)
    for path in sorted(EVALUATION_FIGURES.iterdir()):
        tracker.log_artifact(path, "evaluation")


def _print_table(summary: dict[str, Any], split: str) -> None:
    print(f"{summary['images']} {split} images at {summary['size']} px, means")
    print("strokes" + f"{'used':>9}" + "".join(f"{name:>11}" for name in METRICS))
    for strokes, metrics in summary["strokes"].items():
        print(f"{strokes:>7}{metrics['used']:9.1f}" + "".join(f"{metrics[name]['mean']:11.5f}" for name in METRICS))


def main() -> None:
    run_stage("evaluate", run)


if __name__ == "__main__":
    main()
