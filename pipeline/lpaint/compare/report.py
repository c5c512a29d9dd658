"""``lpaint compare``: the report in Markdown, HTML and JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lpaint import __version__
from lpaint.compare.experiments import list_experiments, notes_on_experiments
from lpaint.compare.figures import write_plots, write_sheet
from lpaint.compare.runs import Selection, select_trainings
from lpaint.compare.table import METRICS, VALIDATION, Estimate, Table, build_table, common_strokes, common_thresholds
from lpaint.errors import ParamsError
from lpaint.files import write_text
from lpaint.runtime.paths import repository_root
from lpaint.tracking.run_store import RunStore

FORMATS = ("md", "html", "json")
SHEET = "sheet.png"
_STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border: 1px solid #ccc; padding: 3px 8px }
img { max-width: 100% }"""


def compare_trainings(
    out: Path,
    uri: str | None = None,
    by: Sequence[str] = ("gan", "replay"),
    where: dict[str, str] | None = None,
    strokes: int | None = None,
    thresholds: Sequence[float] = (),
    formats: Sequence[str] = FORMATS,
) -> str:
    """Compare tracked trainings and write report, plots and sheet into ``out``. Returns a message for the user.

    Args:
        out: folder; created if missing.
        uri: MLflow's store; None = ``MLFLOW_TRACKING_URI`` or the repository's own.
        by: parameters to group by.
        where: values that parameters must have.
        strokes: stroke budget to compare at; None = 100, or the largest that all have.
        thresholds: validation L2s to reach, for the columns "updates to"; empty = chosen from what all reached.
        formats: of md, html and json.

    Raises:
        ParamsError: no run has a parameter, or not all were evaluated at the stroke budget.
        DataError: the store cannot be read.
    """
    store = RunStore(uri)
    selection = select_trainings(store, by, where or {}, tuple(METRICS))
    selection.left_out += notes_on_experiments(list_experiments(repository_root()), selection.tracked)
    if len(selection.trainings) < 2:
        found = "one finished training" if selection.trainings else "no finished training"
        why = f" ({'; '.join(selection.left_out)})" if selection.left_out else ""
        return f"there is nothing to compare yet: {found} was found{why}"
    budget = common_strokes(selection.trainings, strokes)
    if budget is None:
        wanted = f"--strokes {strokes}" if strokes is not None else "evaluate.strokes"
        raise ParamsError(f"{wanted}: these trainings were not all evaluated at a common number of strokes")
    table = build_table(selection, budget, list(thresholds) or common_thresholds(selection.trainings))
    out.mkdir(parents=True, exist_ok=True)
    plots = write_plots(selection, out)
    has_sheet = write_sheet(selection, store, budget, out / SHEET)
    text = markdown(selection, table, plots, has_sheet)
    if "md" in formats:
        write_text(out / "report.md", text)
    if "html" in formats:
        write_text(out / "report.html", _html(text))
    if "json" in formats:
        write_text(out / "report.json", json.dumps(as_json(selection, table), indent=2) + "\n")
    groups = len(selection.groups)
    return f"{len(selection.trainings)} trainings in {groups} groups compared; see {out}/report.{formats[0]}"


def markdown(selection: Selection, table: Table, plots: Sequence[tuple[str, str]], has_sheet: bool) -> str:
    """The report in Markdown."""
    lines = ["# Trainings compared", ""]
    lines += [
        f"{len(selection.trainings)} trainings in {len(table.rows)} groups by {', '.join(table.by)}. Metrics are means "
        f"over the test pictures at {table.strokes} strokes; no discriminator influences them. Rows are sorted by "
        "the validation L2: the same metric on the validation pictures, painted in the same way (or the best one seen "
        "in training, if an earlier lpaint did not measure it). Choose by it, and report the test figures of your "
        "choice. Figures are means over seeds, ± the half-width of Student's 95% interval for at least two seeds. If "
        "intervals overlap widely, the order is undecided. A number in brackets says how many of the group have the "
        "figure, if not all do.",
        "",
    ]
    if selection.differing:
        lines += ["**Note**: these runs also differ in other parameters:", ""]
        lines += [f"- {name}: {', '.join(values)}" for name, values in selection.differing.items()] + [""]
    seeds = {len(row.seeds) for row in table.rows}
    if min(seeds) < 2:
        lines += ["**Note**: groups with a single seed have no interval; their order may be chance.", ""]
    first = [VALIDATION, *METRICS, "strokes_used"]
    lines += [_table(table, first), ""]
    lines += [_table(table, [name for name in table.columns if name not in first]), ""]
    for name, caption in plots:
        lines += [f"## {caption}", "", f"![{caption}]({name})", ""]
    if has_sheet:
        lines += [
            f"## Paintings with {table.strokes} strokes, best seed of each group by validation",
            "",
            f"![]({SHEET})",
            "",
        ]
    if selection.left_out:
        lines += ["## Left out", "", *(f"- {sentence}" for sentence in selection.left_out), ""]
    lines += [f"Written by lpaint {__version__}."]
    return "\n".join(lines) + "\n"


def as_json(selection: Selection, table: Table) -> dict[str, Any]:
    """The figures of the report; ``ci95`` is Student's interval, ``levels`` are the thresholds."""
    rows = [
        {
            "group": dict(zip(table.by, row.group, strict=True)),
            "seeds": row.seeds,
            "runs": [training.run.run_id for training in selection.groups[row.group]],
            "figures": {name: _estimate(cell) for name, cell in row.cells.items()},
        }
        for row in table.rows
    ]
    return {
        "by": list(table.by),
        "strokes": table.strokes,
        "levels": table.thresholds,
        "rows": rows,
        "differing": selection.differing,
        "left_out": selection.left_out,
    }


def _estimate(cell: Estimate) -> dict[str, float | None]:
    return {"mean": cell.mean, "ci95": cell.student_ci95, "n": cell.n, "missing": cell.missing}


def _table(table: Table, columns: Sequence[str]) -> str:
    heads = [*table.by, "seeds", *(column.replace("_", " ") for column in columns)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in table.rows:
        cells = [_cell(row.cells[column], len(row.seeds)) for column in columns]
        lines.append("| " + " | ".join([*row.group, str(len(row.seeds)), *cells]) + " |")
    return "\n".join(lines)


def _cell(estimate: Estimate, seeds: int) -> str:
    if estimate.mean is None:
        return "–"
    text = f"{estimate.mean:.4g}" + (f" ± {estimate.student_ci95:.2g}" if estimate.student_ci95 is not None else "")
    return text + (f" ({estimate.n} of {seeds})" if estimate.n < seeds else "")


def _html(text: str) -> str:
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark").enable("table").render(text)
    head = f"<meta charset='utf-8'><title>Trainings compared</title><style>{_STYLE}</style>"
    return f"<!doctype html><html><head>{head}</head><body>{body}</body></html>\n"
