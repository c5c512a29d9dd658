"""Learning efficiency, one change at a time: `python benchmarks/learning.py --seeds 0,1`.

A cell is the profile `faces-cpu` with a few hundred updates and one change; CELLS names them (with a step schedule of
the learning rates, and half of the updates on the small canvas). Each is trained once per seed on the data of `dvc
repro prepare`, tracked as an MLflow run (tag `study`), and evaluated on the validation split. Cells that the report
already holds are skipped, so the command can be stopped and repeated. Several processes can share a report. Writes
NAME.json and its table, NAME.table.md.
"""

from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from lpaint.agent.trainer import AgentTraining
from lpaint.bench.study import add_cell, evaluate_actor, has_cell, mean_errors, show_errors
from lpaint.compare.table import Difference
from lpaint.data.dataset import PreparedData
from lpaint.renderer.networks import canvas_rasterisers
from lpaint.runtime.params import Params, parse_params
from lpaint.runtime.profiles import params_with_profile
from lpaint.strokes import get_family
from lpaint.tracking import FINAL_VALIDATION, start_run
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import Compute, choose_compute

ROOT = Path(__file__).parents[1]
BASE = "base"
BUDGETS = [25, 50, 100, 200]
_CRITIC = {"agent.discount": 0.95}
_GAN = {"agent.gan": "wgan_gp"}
# The published episode, evaluated as published: its 100 strokes in order.
_PUBLISHED = {
    "agent.zoom": [1],
    "agent.max_steps": 20,
    "agent.environments": 24,
    "evaluate.protocol": "episode",
}
# Name of a cell -> the settings that it changes. The environments keep a round at about 480 transitions.
CELLS: dict[str, dict[str, Any]] = {
    BASE: {},
    "pooled head": {"agent.actor.head": "pooled"},
    "critic": _CRITIC,
    "colours never fitted": {"agent.fit_colours": "never"},
    "colours fitted in rollouts": {"agent.fit_colours": "rollouts"},
    "colours fitted in the loss": {"agent.fit_colours": "always"},
    "random crops": {"agent.crops": "random"},
    "strokes carried": {"agent.carry": "strokes"},
    "no curriculum": {"agent.curriculum.share": 0.0},
    "curriculum to 0.8": {"agent.curriculum.share": 0.8},
    "zoom [1], 20 steps": _PUBLISHED,
    "zoom [1], 20 steps, critic": {**_PUBLISHED, **_CRITIC},
    "zoom [1, 2]": {"agent.zoom": [1, 2], "agent.environments": 48},
    "zoom [1, 2, 4, 8]": {"agent.zoom": [1, 2, 4, 8], "agent.environments": 24},
    "3 steps a scale": {"agent.max_steps": 3, "agent.environments": 53},
    "8 steps a scale": {"agent.max_steps": 8, "agent.environments": 20},
    "bundle 1, 25 steps": {"agent.bundle": 1, "agent.max_steps": 25, "agent.environments": 6},
    "bundle 10, 3 steps": {"agent.bundle": 10, "agent.max_steps": 3, "agent.environments": 53},
    "WGAN-GP beside": _GAN,
    "WGAN-GP, critic, PER": {**_GAN, **_CRITIC, "agent.replay": "prioritized"},
    "critic, 2 steps ahead": {**_CRITIC, "agent.horizon": 2},
    "learning rate 5e-4": {"agent.actor.learning_rate": 5e-4},
    "learning rate 1e-3": {"agent.actor.learning_rate": 1e-3},
    "learning rate 4e-3": {"agent.actor.learning_rate": 4e-3},
    "cosine schedule": {"agent.schedule": "cosine"},
    "warm-up of 50": {"agent.warmup_updates": 50},
    "averaged weights": {"agent.actor.average": True},
    "batch 32": {"agent.batch_size": 32},
    "batch 128": {"agent.batch_size": 128},
    "8 updates a round": {"agent.updates_per_round": 8},
    "32 updates a round": {"agent.updates_per_round": 32},
    "replay of 3 rounds": {"agent.replay_rounds": 3},
    "one block a stage": {"agent.actor.blocks": 1},
    "width 16": {"agent.actor.width": 16},
    "width 48": {"agent.actor.width": 48},
    "start from the mean colour": {"agent.start": "mean"},
    "start from white": {"agent.start": "white"},
    "difference reward": {"agent.reward.l2_form": "difference", "agent.reward.l2": 20.0},
    "epsilon 5e-3": {"agent.reward.l2_epsilon": 5e-3},
    "epsilon 5e-5": {"agent.reward.l2_epsilon": 5e-5},
    "edges 1": {"agent.reward.edges": 1.0},
    "no flip": {"agent.flip": False},
    "fp32, not compiled": {"base.precision": "fp32", "base.compile": "off"},
}


def main(
    cells: Annotated[str, typer.Option(help="Semicolon-separated names of cells; empty = all.")] = "",
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1",
    updates: Annotated[int, typer.Option(min=1, help="Updates of each cell.")] = 600,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = as in params.yaml.")] = 1,
    data: Annotated[Path, typer.Option(help="Folder of prepared data.")] = ROOT / "data/prepared",
    images: Annotated[int, typer.Option(min=1, help="Number of validation images.")] = 24,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = ROOT / "docs/study",
    report_name: Annotated[str, typer.Option("--name", help="Name of the report.")] = "learning",
) -> None:
    """Train and evaluate every cell and seed that the report lacks."""
    prepared = PreparedData.load(data)
    report = out / f"{report_name}.json"
    for name in cells.split(";") if cells else CELLS:
        for seed in map(int, seeds.split(",")):
            if has_cell(report, f"{name}/{seed}"):
                continue
            params = variant(CELLS[name], seed, updates, threads)
            cell = run_cell(name, params, prepared, choose_compute(params.base), images)
            add_cell(report, f"{name}/{seed}", cell, table)
            print(name, seed, cell["seconds"], cell["l2"], flush=True)


def variant(changes: dict[str, Any], seed: int, updates: int, threads: int) -> Params:
    """The parameters of a cell."""
    values = params_with_profile(ROOT, "faces-cpu").model_dump(by_alias=True)
    common: dict[str, Any] = {
        "base.seed": seed,
        "base.threads": threads,
        "agent.updates": updates,
        "agent.validation.every": 100,
    }
    common |= {"agent.schedule": "step", "agent.curriculum.share": 0.5}
    for key, value in {**common, **changes}.items():
        *sections, last = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[last] = value
    return parse_params(values, "a cell")


def run_cell(name: str, params: Params, data: PreparedData, compute: Compute, images: int) -> dict[str, Any]:
    """Train one cell and evaluate the actor of its best validation."""
    rasterisers = canvas_rasterisers(get_family(params.stroke.family), compute)
    with start_run("study", params) as tracker, TemporaryDirectory() as folder:
        tracker.set_tags({"study": "learning", "cell": name})
        training = AgentTraining(params, data, compute, rasterisers, CheckpointManager(Path(folder)), tracker)
        training.run()
        progress = training.progress
        strokes, evaluation = evaluate_actor(training, data, images, BUDGETS)
        errors = mean_errors(strokes)
        tracker.log_metrics({f"{FINAL_VALIDATION}/l2_{budget}": value for budget, value in errors.items()})
    return {
        "updates": progress.update,
        "samples": progress.update * params.agent.batch_size,
        "transitions": progress.transitions,
        "seconds": round(progress.seconds, 1),
        "split": "validation",
        "images": len(evaluation.rows),
        "l2": errors,
        "curve": [{key: round(row[key], 6) for key in ("update", "seconds", "l2")} for row in progress.curve],
        "compute": compute.as_dict(),
    }


def table(cells: dict[str, Any]) -> str:
    """The report as a Markdown table: means over seeds, best first, base included."""
    head = "| changed | seeds | samples | transitions | seconds | " + " | ".join(f"L2 {budget}" for budget in BUDGETS)
    lines = [head + " | against base | verdict |\n" + "|---" * (len(BUDGETS) + 7) + "|"]
    names = {key.rsplit("/", 1)[0] for key in cells}
    groups = {name: [cell for key, cell in cells.items() if key.rsplit("/", 1)[0] == name] for name in names}
    against = {name: [_against(cell, groups.get(BASE, [cell])) for cell in group] for name, group in groups.items()}
    for name in sorted(names, key=lambda name: np.mean(np.log(against[name]))):
        group = groups[name]
        means = {budget: mean(cell["l2"][budget] for cell in group) for budget in group[0]["l2"]}
        errors = " | ".join(show_errors(means, BUDGETS))
        spread, verdict = "", ""
        if BASE in groups:
            spread = " ".join(f"{value:.3f}" for value in against[name])
            verdict = "" if name == BASE else _verdict(against[name], against[BASE])
        lines.append(
            f"| {name} | {len(group)} | {group[0]['samples']} | {group[0]['transitions']} "
            f"| {mean(cell['seconds'] for cell in group):.0f} | {errors} | {spread} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _verdict(cells: list[float], base: list[float]) -> str:
    """``less`` or ``more`` error than base if the interval of the mean logarithm excludes zero, else ``undecided``."""
    verdict = Difference.of([float(np.log(value)) for value in cells], [float(np.log(value)) for value in base]).verdict
    return {"lower": "less", "higher": "more"}.get(verdict, verdict)


def _against(cell: dict[str, Any], base: list[dict[str, Any]]) -> float:
    """Error of a cell relative to base: geometric mean over the budgets of the cell."""
    logs = [np.log([each["l2"][budget] for budget in cell["l2"]]).mean() for each in (cell, *base)]
    return float(np.exp(logs[0] - np.mean(logs[1:])))


if __name__ == "__main__":
    typer.run(main)
