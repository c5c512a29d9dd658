"""The committed studies: that their tables say what their data say."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("name", "page"), [("families", "README"), ("learning", "learning"), ("curves", "learning")])
def test_tables_are_what_the_reports_give(name: str, page: str) -> None:
    table = runpy.run_path(str(ROOT / f"benchmarks/{name}.py"))["table"]
    cells = json.loads((ROOT / f"docs/study/{name}.json").read_text(encoding="utf-8"))
    made = table(cells)
    assert made == (ROOT / f"docs/study/{name}.table.md").read_text(encoding="utf-8")
    assert made in (ROOT / f"docs/study/{page}.md").read_text(encoding="utf-8")
    rows = [row for cell in cells.values() for row in (cell if isinstance(cell, list) else [cell])]
    assert all(row["images"] >= 24 for row in rows)


def test_every_change_of_the_learning_study_is_a_valid_setting() -> None:
    study = runpy.run_path(str(ROOT / "benchmarks/learning.py"))
    variants = {name: study["variant"](changes, 3, 10, 1) for name, changes in study["CELLS"].items()}
    assert all(params != variants[study["BASE"]] for name, params in variants.items() if name != study["BASE"])
    assert variants[study["BASE"]].base.seed == 3
