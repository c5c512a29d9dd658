"""The study's page says what its measurements say."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs/study"


@pytest.fixture(scope="module")
def study() -> Any:
    spec = importlib.util.spec_from_file_location("study", ROOT / "benchmarks/study.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results() -> Any:
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def test_tables_are_what_the_measurements_give(study: Any, results: Any) -> None:
    page = (FOLDER / "ablations.md").read_text(encoding="utf-8")
    assert study.fill(page, results) == page
    assert all(f"<!-- table: {group} -->" in page for group in study.GROUPS)
    broken = json.loads(json.dumps(results))
    broken["cells"]["base"]["runs"][0]["test"]["l2"]["100"] += 0.001
    assert study.fill(page, broken) != page


def test_every_cell_has_three_seeds_of_one_kind(study: Any, results: Any) -> None:
    for name, cell in results["cells"].items():
        assert [run["seed"] for run in cell["runs"]] == [0, 1, 2], name
        assert {key: str(value) for key, value in cell["changes"].items()} == {
            key: str(value) for key, value in study.CELLS[name].items()
        }
        assert len({(run["commit"], run["data"], run["updates"]) for run in cell["runs"]}) == 1, name


def test_nothing_is_said_of_runs_that_are_not_of_the_study(study: Any) -> None:
    names = ("study-wgan_gp-alone-2", "other-1")
    runs = [SimpleNamespace(tags={"dvc.experiment": name}) for name in names]
    assert [study._identity(run) for run in runs] == [("wgan_gp-alone", 2), ("", 0)]
