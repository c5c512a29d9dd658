"""`lpaint compare`: the report in Markdown, HTML and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lpaint import __version__
from lpaint.compare.experiments import list_experiments, notes_on_experiments
from lpaint.compare.figures import write_plots, write_sheet
from lpaint.compare.runs import Selection, select_trainings
from lpaint.compare.table import JUDGES, VALIDATION, Estimate, Table, build_table, common_levels, common_strokes
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


def compare(
    out: Path,
    uri: str | None = None,
    by: Sequence[str] = ("gan", "replay"),
    where: dict[str, str] | None = None,
    strokes: int | None = None,
    levels: Sequence[float] = (),
    formats: Sequence[str] = FORMATS,
) -> str:
    """Compare tracked trainings and write report, plots and sheet into ``out``; what to tell the user.

    Args:
        out: folder, made if need be.
        uri: MLflow's store; None = ``MLFLOW_TRACKING_URI`` or the repository's own.
        by: parameters whose values make the groups.
        where: values that parameters must have.
        strokes: stroke budget at which to judge; None = 100, or the largest that all have.
        levels: validation L2s whose reaching is timed; none = chosen by what all reached.
        formats: of md, html and json.

    Raises:
        ParamsError: a parameter that no run has, or a stroke budget at which not all were judged.
        DataError: the store cannot be read.
    """
    store = RunStore(uri)
    selection = select_trainings(store, by, where or {}, tuple(JUDGES))
    selection.left_out += notes_on_experiments(list_experiments(repository_root()), selection.tracked)
    if len(selection.trainings) < 2:
        found = "one finished training" if selection.trainings else "no finished training"
        why = f" ({'; '.join(selection.left_out)})" if selection.left_out else ""
        return f"there is nothing to compare yet: {found} was found{why}"
    judged = common_strokes(selection.trainings, strokes)
    if judged is None:
        wanted = f"--strokes {strokes}" if strokes is not None else "evaluate.strokes"
        raise ParamsError(f"{wanted}: these trainings were not all judged at a common number of strokes")
    table = build_table(selection, judged, list(levels) or common_levels(selection.trainings))
    out.mkdir(parents=True, exist_ok=True)
    plots = write_plots(selection, out)
    has_sheet = write_sheet(selection, store, judged, out / SHEET)
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
    """The report's text."""
    lines = ["# Trainings compared", ""]
    lines += [
        f"{len(selection.trainings)} trainings in {len(table.rows)} groups by {', '.join(table.by)}. Judges are means "
        f"over the test pictures at {table.strokes} strokes; no discriminator takes part in them. Rows are in order of "
        "the validation L2: the same judge on the validation pictures, painted in the same way (or the best of the "
        "training, where an earlier lpaint did not measure it). Choose by it, and report the test figures of what you "
        "chose. Figures are means over seeds, ± the half-width of Student's 95% interval where there are at least two "
        "seeds; where intervals overlap widely the order is undecided. A number in brackets says how many of the group "
        "have the figure, where not all do.",
        "",
    ]
    if selection.differing:
        lines += ["**Mind**: these runs differ in more than what they are grouped by:", ""]
        lines += [f"- {name}: {', '.join(values)}" for name, values in selection.differing.items()] + [""]
    seeds = {len(row.seeds) for row in table.rows}
    if min(seeds) < 2:
        lines += ["**Mind**: groups of a single seed have no interval; their order may be chance.", ""]
    first = [VALIDATION, *JUDGES, "strokes_used"]
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
    """The report's figures."""
    rows = [
        {
            "group": dict(zip(table.by, row.group, strict=True)),
            "seeds": row.seeds,
            "runs": [training.run.run_id for training in selection.groups[row.group]],
            "figures": {name: asdict(cell) for name, cell in row.cells.items()},
        }
        for row in table.rows
    ]
    return {
        "by": list(table.by),
        "strokes": table.strokes,
        "levels": table.levels,
        "rows": rows,
        "differing": selection.differing,
        "left_out": selection.left_out,
    }


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
    text = f"{estimate.mean:.4g}" + (f" ± {estimate.ci95:.2g}" if estimate.ci95 is not None else "")
    return text + (f" ({estimate.n} of {seeds})" if estimate.n < seeds else "")


def _html(text: str) -> str:
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark").enable("table").render(text)
    head = f"<meta charset='utf-8'><title>Trainings compared</title><style>{_STYLE}</style>"
    return f"<!doctype html><html><head>{head}</head><body>{body}</body></html>\n"
