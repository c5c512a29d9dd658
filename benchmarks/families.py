"""Compare stroke families: `python benchmarks/families.py`, on the data of `dvc repro prepare`.

A cell is a stroke family and the renderer used in training (exact or neural). All are trained for the same number of
updates and evaluated on the validation split with exact strokes. Cells that the report already holds are skipped, so
the command can be stopped and repeated. Writes a report, NAME.json, and its table, NAME.table.md.
"""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from lpaint.agent.trainer import AgentTraining
from lpaint.bench.study import add_cell, evaluate_actor, has_cell, mean_errors, show_errors
from lpaint.data.dataset import PreparedData
from lpaint.evaluation import neural_gap
from lpaint.renderer.networks import NeuralRenderer, canvas_rasterisers
from lpaint.renderer.training import RendererTraining
from lpaint.runtime.params import Params
from lpaint.runtime.profiles import params_with_profile
from lpaint.strokes import Rasteriser, get_family
from lpaint.tracking import NullTracker
from lpaint.training.checkpoint import CheckpointManager
from lpaint.training.device import Compute, choose_compute

ROOT = Path(__file__).parents[1]
FAMILIES = "bezier,bezier_opaque,brush,circle,line,pixel,rectangle,triangle"
BUDGETS = [25, 50, 100, 200, 500]


def main(
    updates: Annotated[int, typer.Option(min=1, help="Updates of each cell.")] = 1000,
    profile: Annotated[str, typer.Option(help="Profile of the agents.")] = "faces-cpu",
    families: Annotated[str, typer.Option(help="Comma-separated.")] = FAMILIES,
    renderers: Annotated[str, typer.Option(help="exact, neural or both, comma-separated.")] = "exact,neural",
    data: Annotated[Path, typer.Option(help="Folder of prepared data.")] = ROOT / "data/prepared",
    images: Annotated[int, typer.Option(min=1, help="Number of validation images.")] = 24,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = as in params.yaml.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = ROOT / "docs/study",
    report_name: Annotated[str, typer.Option("--name", help="Name of the report.")] = "families",
) -> None:
    """Train and evaluate every cell that the report lacks."""
    params = params_with_profile(ROOT, profile)
    agent = params.agent.model_copy(update={"updates": updates})
    base = params.base.model_copy(update={"threads": threads or params.base.threads})
    params = params.model_copy(update={"agent": agent, "base": base})
    prepared = PreparedData.load(data)
    compute = choose_compute(params.base)
    report = out / f"{report_name}.json"
    for name in families.split(","):
        variant = params.model_copy(update={"stroke": params.stroke.model_copy(update={"family": name})})
        network: NeuralRenderer | None = None
        for renderer in renderers.split(","):
            if has_cell(report, f"{name}/{renderer}"):
                continue
            if network is None:
                network, renderer_errors = pretrain(variant, compute)
            agent = params.agent.model_copy(update={"renderer": renderer})
            variant = variant.model_copy(update={"agent": agent})
            rasterisers = canvas_rasterisers(get_family(name), compute, network if renderer == "neural" else None)
            training, cell = train(variant, prepared, compute, rasterisers)
            strokes, evaluation = evaluate_actor(training, prepared, images, BUDGETS)
            gap = neural_gap(network, get_family(name), evaluation.strokes, variant.agent.episode_strokes)
            cell |= {"split": "validation", "images": len(evaluation.rows), "l2": mean_errors(strokes), "gap": gap}
            cell |= {
                "renderer_l1": renderer_errors["l1"],
                "renderer_l2": renderer_errors["l2"],
                "compute": compute.as_dict(),
            }
            add_cell(report, f"{name}/{renderer}", cell, table)
            print(name, renderer, json.dumps({key: value for key, value in cell.items() if key != "curve"}), flush=True)


def pretrain(params: Params, compute: Compute) -> tuple[NeuralRenderer, dict[str, float]]:
    """Pretrain the neural renderer of the family by ``params.renderer``. Returns it and its last validation."""
    with TemporaryDirectory() as folder:
        training = RendererTraining(params, compute, CheckpointManager(Path(folder)), NullTracker())
        training.run()
    return training.network.eval().requires_grad_(False), training.progress.curve[-1]


def train(
    params: Params, data: PreparedData, compute: Compute, rasterisers: Callable[[int], Rasteriser]
) -> tuple[AgentTraining, dict[str, Any]]:
    """Train a cell. Returns the training and the first entries of its cell."""
    with TemporaryDirectory() as folder:
        training = AgentTraining(params, data, compute, rasterisers, CheckpointManager(Path(folder)), NullTracker())
        training.run()
    curve = [{key: row[key] for key in ("update", "seconds", "l2", "reward")} for row in training.progress.curve]
    return training, {
        "updates": training.progress.update,
        "seconds": round(training.progress.seconds, 1),
        "validation_reward": round(max(row["reward"] for row in curve), 4),
        "curve": curve,
    }


def table(cells: dict[str, Any]) -> str:
    """The report as a Markdown table, best first."""
    head = "| family | learnt on | seconds | reward | " + " | ".join(f"L2 {budget}" for budget in BUDGETS)
    head += " | renderer L2 | gap L1 | gap L2 |\n" + "|---" * (len(BUDGETS) + 7) + "|"
    lines = [head]
    for name, cell in sorted(cells.items(), key=lambda item: item[1]["l2"]["100"]):
        family, renderer = name.split("/")
        errors = " | ".join(show_errors(cell["l2"], BUDGETS))
        gap = cell["gap"]
        lines.append(
            f"| {family} | {renderer} | {cell['seconds']:.0f} | {cell['validation_reward']:.3f} | {errors} "
            f"| {cell['renderer_l2']:.4f} | {gap.get('l1', float('nan')):.4f} | {gap.get('l2', float('nan')):.4f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
