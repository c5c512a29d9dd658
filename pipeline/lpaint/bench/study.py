"""Shared code of the studies in ``benchmarks/``: evaluation of an actor, and reports that several processes write."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lpaint.agent.torch_model import TorchPaintingModel
from lpaint.agent.trainer import AgentTraining
from lpaint.data.dataset import PreparedData
from lpaint.evaluation import Evaluation, evaluate, summarise
from lpaint.files import lock_file, write_json, write_text


def evaluate_actor(
    training: AgentTraining, data: PreparedData, images: int, budgets: Sequence[int], split: str = "validation"
) -> tuple[dict[str, Any], Evaluation]:
    """Evaluate the current actor on the first images of a split: figures by stroke budget, and the evaluation.

    Compare candidates on the validation split. Use ``test`` only once, for the chosen one.
    """
    model = TorchPaintingModel(training.actor.eval(), training.actor_spec, training.compute)
    rows = data.split(split)[:images]
    evaluation = evaluate(model, data.images, rows, data.names(rows), budgets)
    return summarise(evaluation)["strokes"], evaluation


def mean_errors(strokes: dict[str, Any]) -> dict[str, float]:
    """Mean L2 by stroke budget, from the figures of a summary."""
    return {budget: row["l2"]["mean"] for budget, row in strokes.items()}


def show_errors(errors: dict[str, float], budgets: Sequence[int]) -> list[str]:
    """L2 at each budget for a table; empty where there is none, beyond the end of the agent's episode."""
    return [f"{errors[str(budget)]:.4f}" if str(budget) in errors else "" for budget in budgets]


def read_report(report: Path) -> dict[str, Any]:
    """The cells of a report; none if the file does not exist."""
    cells: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return cells


def has_cell(report: Path, key: str) -> bool:
    """Whether the report holds a cell of the validation split. Earlier versions used the test split."""
    return bool(read_report(report).get(key, {}).get("split") == "validation")


def add_cell(report: Path, key: str, cell: dict[str, Any], table: Callable[[dict[str, Any]], str]) -> None:
    """Put a cell into a report, sorted by key."""
    change_report(report, lambda cells: dict(sorted({**cells, key: cell}.items())), table)


def change_report(
    report: Path, change: Callable[[dict[str, Any]], dict[str, Any]], table: Callable[[dict[str, Any]], str]
) -> None:
    """Apply ``change`` to a report NAME.json and rewrite its table NAME.table.md, one process at a time."""
    report.parent.mkdir(parents=True, exist_ok=True)
    with report.with_suffix(".lock").open("w") as lock:
        lock_file(lock)
        cells = change(read_report(report))
        write_json(report, cells)
        write_text(report.with_suffix(".table.md"), table(cells))
