"""The ablation study: replay, GANs, algorithms, exploration, renderers and bundles, three seeds per cell.

Cells are experiments in DVC's queue, each tracked by MLflow, so that the study can be stopped and continued:

    lpaint profile apply study
    python benchmarks/study.py queue --data /path/to/img_align_celeba.zip
    dvc queue start -j 2
    python benchmarks/study.py report

``queue`` skips experiments that DVC knows. ``report`` reads the tracked runs into docs/study/results.json, and writes
plots and the tables of docs/study/ablations.md from that file.
"""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer

from lpaint.compare.experiments import list_experiments
from lpaint.compare.table import METRICS, Difference, Estimate
from lpaint.files import write_json, write_text
from lpaint.plots import save_curves
from lpaint.tracking.base import FINAL_VALIDATION
from lpaint.tracking.run_store import RunStore, TrackedRun

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs/study"
BASE = "base"
PREFIX = "study-"
STROKES = 100
# Cells with fewer seeds are left out.
SEEDS = 3
_CURVES = {"l2": "validation/l2", "reward": "validation/reward", "seconds": "charts/seconds"}
_GANS = ("wgan_gp", "dragan", "fisher", "cramer", "sngan", "sagan")
_PER = {"agent.replay": "prioritized"}
# As published: the whole image in 20 steps. 24 environments keep a round at 480 transitions.
_LONG = {"agent.zoom": "[1]", "agent.max_steps": 20, "agent.environments": 24}
# The same, evaluated as published: all 100 strokes in order. Otherwise the painter drops most of them.
_EPISODE = {**_LONG, "evaluate.protocol": "episode"}
_ALONE = {"agent.reward.l2": 0.0}
# Group -> name of a cell -> the settings that it changes in the profile `study`, which is the cell `base`.
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "replay": {
        BASE: {},
        "per": _PER,
        "per-shared": {**_PER, "agent.per.actor_sampling": "shared"},
        "long": _LONG,
        "long-per": {**_LONG, **_PER},
        "episode": _EPISODE,
        "episode-per": {**_EPISODE, **_PER},
    },
    "gan-beside-l2": {BASE: {}} | {f"{gan}-beside": {"agent.gan": gan} for gan in _GANS},
    "gan-alone": {f"{gan}-alone": {"agent.gan": gan, **_ALONE} for gan in _GANS}
    | {
        f"{gan}-frozen": {"agent.gan": gan, **_ALONE, "agent.discriminator.frozen": "true"}
        for gan in ("wgan_gp", "sngan")
    },
    "algorithm": {
        BASE: {},
        "td3": {"agent.algorithm": "td3"},
        "model-free": {
            "agent.algorithm": "model_free_ddpg",
            "agent.exploration": "gaussian",
            "agent.actor.learning_rate": 1e-4,
            "agent.critic.learning_rate": 1e-3,
        },
    },
    "exploration": {
        BASE: {},
        "gaussian": {"agent.exploration": "gaussian"},
        "layer-norm": {"agent.actor.norm": "layer"},
        "parameter": {"agent.exploration": "parameter", "agent.actor.norm": "layer"},
    },
    "renderer": {BASE: {}, "neural": {"agent.renderer": "neural"}},
    "bundle": {
        "bundle-1": {"agent.bundle": 1, "agent.max_steps": 25, "agent.environments": 6},
        BASE: {},
        "bundle-10": {"agent.bundle": 10, "agent.max_steps": 3, "agent.environments": 53},
    },
}
CELLS = {name: changes for group in GROUPS.values() for name, changes in group.items()}
# Comparisons: a cell, the cell it is compared with, and the figure.
REWARD, ERROR = "validation reward, last", "L2"
DIFFERENCES = (
    ("long-per", "long", REWARD),
    ("episode-per", "episode", REWARD),
    ("sagan-alone", "cramer-alone", ERROR),
    ("sngan-alone", "cramer-alone", ERROR),
    ("sngan-alone", "dragan-alone", ERROR),
    ("cramer-alone", "wgan_gp-alone", ERROR),
    ("fisher-alone", "wgan_gp-alone", ERROR),
    ("dragan-alone", "wgan_gp-alone", ERROR),
    *((f"{gan}-alone", BASE, ERROR) for gan in _GANS),
    *((f"{gan}-beside", BASE, ERROR) for gan in _GANS),
    ("parameter", "layer-norm", ERROR),
    ("parameter", "layer-norm", REWARD),
    ("wgan_gp-frozen", "wgan_gp-alone", REWARD),
    ("model-free", BASE, REWARD),
    ("td3", BASE, ERROR),
    ("neural", BASE, ERROR),
    ("bundle-1", BASE, ERROR),
)
app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Cell:
    """A row of a table: the figures of a cell over seeds."""

    name: str
    runs: list[dict[str, Any]]

    def estimate(self, *path: str) -> Estimate:
        """Mean and 95% interval over seeds of the value at ``path`` in each run."""
        return Estimate.of([_value_at(run, path) for run in self.runs])


@app.command()
def queue(
    data: Annotated[str, typer.Option(help="CelebA's archive or folder.")],
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    cells: Annotated[str, typer.Option(help="Comma-separated names; empty = all.")] = "",
) -> None:
    """Queue every cell and seed that DVC does not know yet, seed by seed."""
    known = {each.name for each in list_experiments(ROOT) if each.status != "Failed"}
    wanted = cells.split(",") if cells else list(CELLS)
    for seed in seeds.split(","):
        for cell in wanted:
            name = f"{PREFIX}{cell}-{seed}"
            if name in known:
                continue
            changes = {"data.path": data, "base.seed": seed, **CELLS[cell]}
            sets = [part for key, value in changes.items() for part in ("-S", f"{key}={value}")]
            subprocess.run(["dvc", "exp", "run", "--queue", "-n", name, *sets, "evaluate"], cwd=ROOT, check=True)


@app.command()
def report(out: Annotated[Path, typer.Option(help="Folder for the report.")] = OUT) -> None:
    """Write results.json, the plots, and the tables in ablations.md."""
    results = collect(RunStore())
    write_json(out / "results.json", results)
    plot(results, out)
    page = out / "ablations.md"
    write_text(page, fill(page.read_text(encoding="utf-8"), results))


def collect(store: RunStore) -> dict[str, Any]:
    """Settings, errors, curves and time of every cell with enough finished seeds."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in store.runs("train_agent"):
        name, seed = _identity(run)
        if name in CELLS and run.status == "FINISHED" and "test/l2" in run.metrics:
            found[name].append({"seed": seed, **_figures(store, run)})
    cells: dict[str, dict[str, Any]] = {
        name: {"changes": CELLS[name], "runs": sorted(found[name], key=lambda each: each["seed"])}
        for name in CELLS
        if len(found[name]) >= SEEDS
    }
    return {"strokes": STROKES, "cells": cells}


def fill(page: str, results: dict[str, Any]) -> str:
    """The page with new tables between its marks.

    ``<!-- table: GROUP -->`` starts the cells of a group, ``<!-- differences -->`` those of DIFFERENCES, and
    ``<!-- end -->`` ends both.
    """

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{_table(match[2], results)}\n{match[3]}"

    page = re.sub(r"(<!-- table: ([\w-]+) -->).*?(<!-- end -->)", table, page, flags=re.DOTALL)
    found = _differences(results)
    return re.sub(
        r"(<!-- differences -->).*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{found}\n{match[2]}",
        page,
        flags=re.DOTALL,
    )


def plot(results: dict[str, Any], out: Path) -> None:
    """Plot the validation reward by updates for each group: means over seeds, and their range."""
    for group in GROUPS:
        series, bands = {}, {}
        for cell in _cells(group, results):
            curves = [run["curve"]["reward"] for run in cell.runs]
            updates = [step for step, _ in curves[0]]
            values = list(zip(*([value for _, value in curve] for curve in curves), strict=True))
            series[cell.name] = (updates, [mean(each) for each in values])
            bands[cell.name] = (updates, [min(each) for each in values], [max(each) for each in values])
        if series:
            title = f"Validation reward at {STROKES} strokes: {group}"
            save_curves(out / f"ablation_{group}.png", title, "update", "reward", series, bands=bands, legend=True)


def _identity(run: TrackedRun) -> tuple[str, int]:
    """Cell and seed of a run; an empty cell if the run is not part of the study."""
    match = re.fullmatch(rf"{PREFIX}(.+)-(\d+)", run.tags.get("dvc.experiment", ""))
    return (match[1], int(match[2])) if match else ("", 0)


def _figures(store: RunStore, run: TrackedRun) -> dict[str, Any]:
    """The figures of a run, rounded, with the same keys for every cell."""
    curves = {name: store.history(run.run_id, metric) for name, metric in _CURVES.items()}
    errors = [value for _, value in curves["l2"]]
    updates = curves["l2"][-1][0]
    transitions = store.history(run.run_id, "charts/transitions")[-1][1]
    return {
        "commit": run.tags.get("git.commit", ""),
        "data": run.tags.get("data.digest", ""),
        "updates": updates,
        "transitions": int(transitions),
        "seconds_an_update": round(curves["seconds"][-1][1] / updates, 4),
        "validation": {
            "final_l2": round(errors[-1], 6),
            "best_l2": round(min(errors), 6),
            "final_reward": round(curves["reward"][-1][1], 5),
            "best_reward": round(max(value for _, value in curves["reward"]), 5),
        },
        "test": _evaluated(store, run, "test"),
        FINAL_VALIDATION: _evaluated(store, run, FINAL_VALIDATION),
        "curve": {name: [[step, round(value, 6)] for step, value in curve] for name, curve in curves.items()},
        "transitions_to_reward": {str(goal): _reaches(curves["reward"], transitions, goal) for goal in (0.85, 0.9)},
    }


def _evaluated(store: RunStore, run: TrackedRun, prefix: str) -> dict[str, dict[str, float]]:
    """Figures of a split by metric and stroke budget. Metrics that the evaluation lacks are left out."""
    histories = {metric: store.history(run.run_id, f"{prefix}/{metric}") for metric in METRICS}
    return {
        metric: {str(strokes): round(value, 6) for strokes, value in history}
        for metric, history in histories.items()
        if history
    }


def _split(results: dict[str, Any]) -> str:
    """The split of the verdicts: validation, or test for results without validation figures."""
    runs = [run for cell in results["cells"].values() for run in cell["runs"]]
    return FINAL_VALIDATION if all(run.get(FINAL_VALIDATION) for run in runs) else "test"


def _differences(results: dict[str, Any]) -> str:
    """The table of DIFFERENCES in Markdown. A verdict needs an interval that excludes zero."""
    split, strokes = _split(results), str(results["strokes"])
    name = "validation" if split == FINAL_VALIDATION else "test"
    figures: dict[str, tuple[tuple[str, ...], str, str]] = {
        REWARD: (("validation", "final_reward"), "+.4f", ".4f"),
        ERROR: ((split, "l2", strokes), "+.5f", ".5f"),
    }
    lines = [f"| cell | against | figure | difference | verdict |\n{'|---' * 5}|"]
    for cell, other, figure in DIFFERENCES:
        if not {cell, other} <= results["cells"].keys():
            continue
        path, form, spread = figures[figure]
        found = Difference.of(
            *([_value_at(run, path) for run in results["cells"][each]["runs"]] for each in (cell, other))
        )
        label = figure if figure == REWARD else f"{name} L2 at {strokes}"
        difference = f"{found.mean:{form}} ± {found.welch_ci95:{spread}}"
        lines.append(f"| {cell} | {other} | {label} | {difference} | {found.verdict} |")
    return "\n".join(lines)


def _reaches(curve: list[tuple[int, float]], transitions: float, threshold: float) -> int | None:
    """Transitions at the first validation at or above ``threshold``; None if there is none."""
    step = next((step for step, value in curve if value >= threshold), None)
    return None if step is None else round(transitions * step / curve[-1][0])


def _cells(group: str, results: dict[str, Any]) -> Iterator[Cell]:
    for name in GROUPS[group]:
        if name in results["cells"]:
            yield Cell(name, results["cells"][name]["runs"])


def _table(group: str, results: dict[str, Any]) -> str:
    """The table of a group in Markdown: means over seeds, ± half-width of Student's 95% interval."""
    strokes = str(results["strokes"])
    columns: dict[str, tuple[tuple[str, ...], str]] = {
        REWARD: (("validation", "final_reward"), ".4f"),
        "best": (("validation", "best_reward"), ".4f"),
    }
    if _split(results) == FINAL_VALIDATION:
        columns[f"validation L2 at {strokes}"] = ((FINAL_VALIDATION, "l2", strokes), ".5f")
    columns |= {
        f"test L2 at {strokes}": (("test", "l2", strokes), ".5f"),
        "PSNR": (("test", "psnr", strokes), ".2f"),
        "SSIM": (("test", "ssim", strokes), ".3f"),
        "MS-SSIM": (("test", "ms_ssim", strokes), ".3f"),
        "GMSD": (("test", "gmsd", strokes), ".4f"),
        "transitions to 0.85": (("transitions_to_reward", "0.85"), ".0f"),
        "to 0.90": (("transitions_to_reward", "0.9"), ".0f"),
    }
    heads = ["cell", "seeds", *columns, "s an update, least"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for cell in _cells(group, results):
        values = " | ".join(_show(cell.estimate(*path), form) for path, form in columns.values())
        # Jobs on one machine slow each other down, so the least is closest to the time of an update alone.
        least = min(run["seconds_an_update"] for run in cell.runs)
        lines.append(f"| {cell.name} | {len(cell.runs)} | {values} | {least:.3f} |")
    return "\n".join(lines)


def _show(estimate: Estimate, form: str) -> str:
    if estimate.mean is None:
        return "never"
    spread = "" if estimate.student_ci95 is None else f" ± {estimate.student_ci95:{form}}"
    missing = f" ({estimate.missing} never)" if estimate.missing else ""
    return f"{estimate.mean:{form}}{spread}{missing}"


def _value_at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        values = values[key]
    return values


if __name__ == "__main__":
    app()
