"""The committed studies: that their tables say what their data say."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REPORTS = ("families", "learnt_on")


@pytest.mark.parametrize("name", REPORTS)
def test_tables_are_what_the_reports_give(name: str) -> None:
    table = runpy.run_path(str(ROOT / "benchmarks/families.py"))["table"]
    cells = json.loads((ROOT / f"docs/study/{name}.json").read_text(encoding="utf-8"))
    made = table(cells)
    assert made == (ROOT / f"docs/study/{name}.md").read_text(encoding="utf-8")
    assert made in (ROOT / "docs/study/README.md").read_text(encoding="utf-8")
    assert all(cell["images"] >= 90 and len(cell["curve"]) > 1 for cell in cells.values())
