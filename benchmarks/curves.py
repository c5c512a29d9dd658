"""Error by training time: `python benchmarks/curves.py --profile faces-cpu`, on the data that `dvc repro prepare` left.

Trains a profile, and evaluates the current actor on the validation split at given times. The clock stops meanwhile.
Adds one row for each time to NAME.json and to its table, NAME.table.md; several profiles share a report.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from lpaint.agent.state import TrainState
from lpaint.agent.trainer import AgentTraining
from lpaint.bench.study import change_report, evaluate_actor, mean_errors, show_errors
from lpaint.data.dataset import PreparedData
from lpaint.renderer.networks import canvas_rasterisers
from lpaint.runtime.profiles import params_with_profile
from lpaint.strokes import get_family
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import choose_compute

ROOT = Path(__file__).parents[1]
BUDGETS = [25, 50, 100, 200, 500, 1000]


class _EnoughError(Exception):
    """Ends a training after the last evaluation."""


def main(
    profile: Annotated[str, typer.Option(help="Profile to train; with the exact renderer.")] = "faces-cpu",
    minutes: Annotated[str, typer.Option(help="When to evaluate, comma-separated.")] = "0.5,1,2,5,10,20",
    updates: Annotated[int, typer.Option(min=0, help="Number of updates; 0 = that of the profile.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = as in params.yaml.")] = 0,
    data: Annotated[Path, typer.Option(help="Folder of prepared data.")] = ROOT / "data/prepared",
    images: Annotated[int, typer.Option(min=1, help="Number of validation images.")] = 24,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = ROOT / "docs/study",
    report_name: Annotated[str, typer.Option("--name", help="Name of the report.")] = "curves",
) -> None:
    """Train a profile and evaluate it at every mark and at its end."""
    params = params_with_profile(ROOT, profile)
    agent = params.agent.model_copy(update={"renderer": "exact", "updates": updates or params.agent.updates})
    base = params.base.model_copy(update={"threads": threads or params.base.threads})
    params = params.model_copy(update={"agent": agent, "base": base})
    prepared, compute = PreparedData.load(data), choose_compute(params.base)
    marks = [60 * float(mark) for mark in minutes.split(",")]
    report = out / f"{report_name}.json"

    def mark(progress: TrainState) -> None:
        strokes, evaluation = evaluate_actor(training, prepared, images, BUDGETS)
        row = {
            "minutes": round(progress.seconds / 60, 2),
            "updates": progress.update,
            "samples": progress.update * params.agent.batch_size,
            "transitions": progress.transitions,
            "split": "validation",
            "images": len(evaluation.rows),
            "l2": mean_errors(strokes),
            "used": {budget: values["used"] for budget, values in strokes.items()},
            "compute": compute.as_dict(),
        }
        change_report(report, lambda curves: {**curves, profile: [*curves.get(profile, []), row]}, table)
        print(profile, json.dumps(row), flush=True)

    def on_round(progress: TrainState) -> None:
        if marks and progress.seconds >= marks[0]:
            mark(progress)
            while marks and progress.seconds >= marks[0]:
                marks.pop(0)
            if not marks:
                raise _EnoughError

    rasterisers = canvas_rasterisers(get_family(params.stroke.family), compute)
    with TemporaryDirectory() as folder:
        training = AgentTraining(params, prepared, compute, rasterisers, CheckpointManager(Path(folder)), NullTracker())
        try:
            end = training.run(on_round).progress
        except _EnoughError:
            return
        mark(end)


def table(curves: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    head = "| profile | minutes | samples | transitions | pictures | " + " | ".join(
        f"L2 {budget}" for budget in BUDGETS
    )
    lines = [head + " |\n" + "|---" * (len(BUDGETS) + 5) + "|"]
    for profile, rows in curves.items():
        for row in rows:
            errors = " | ".join(show_errors(row["l2"], BUDGETS))
            lines.append(
                f"| {profile} | {row['minutes']:.1f} | {row['samples']:,} | {row['transitions']:,} "
                f"| {row.get('split', 'test')} | {errors} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
