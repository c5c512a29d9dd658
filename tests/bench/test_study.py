"""The committed studies: their tables match their data."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lpaint.bench.study import has_cell

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/study"


@pytest.fixture(scope="module")
def ablations() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks/study.py"))


@pytest.fixture(scope="module")
def results() -> Any:
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "page"), [("families", "README"), ("learning", "learning"), ("curves", "learning")])
def test_committed_tables_match_the_reports(name: str, page: str) -> None:
    table = runpy.run_path(str(ROOT / f"benchmarks/{name}.py"))["table"]
    cells = json.loads((ROOT / f"docs/study/{name}.json").read_text(encoding="utf-8"))
    made = table(cells)
    assert made == (ROOT / f"docs/study/{name}.table.md").read_text(encoding="utf-8")
    assert made in (ROOT / f"docs/study/{page}.md").read_text(encoding="utf-8")
    rows = [row for cell in cells.values() for row in (cell if isinstance(cell, list) else [cell])]
    assert all(row["images"] >= 24 for row in rows)


def test_committed_protocol_figures_match_the_report() -> None:
    table = runpy.run_path(str(ROOT / "benchmarks/protocols.py"))["table"]
    cells = json.loads((FOLDER / "protocols.json").read_text(encoding="utf-8"))
    assert table(cells) == (FOLDER / "protocols.table.md").read_text(encoding="utf-8")
    method = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    heads = ("search effort 8, fitted", "search effort 1, fitted", "episode, fitted", "episode, own")
    for profile, budget in (("mnist", "5"), ("mnist", "10"), ("svhn", "10"), ("svhn", "40")):
        runs = [cells[f"{profile}/{seed}"]["judged"] for seed in range(3)]
        columns = [" ".join(f"{run[head][budget]['l2']:.4f}"[1:] for run in runs) for head in heads]
        assert f"| `{profile}` | {budget} | {' | '.join(columns)} |" in method


def test_every_change_of_the_learning_study_is_a_valid_setting() -> None:
    study = runpy.run_path(str(ROOT / "benchmarks/learning.py"))
    variants = {name: study["variant"](changes, 3, 10, 1) for name, changes in study["CELLS"].items()}
    assert all(params != variants[study["BASE"]] for name, params in variants.items() if name != study["BASE"])
    assert variants[study["BASE"]].base.seed == 3


def test_committed_ablation_tables_match_the_results(ablations: dict[str, Any], results: Any) -> None:
    page = (FOLDER / "ablations.md").read_text(encoding="utf-8")
    assert ablations["fill"](page, results) == page
    assert all(f"<!-- table: {group} -->" in page for group in ablations["GROUPS"])
    broken = json.loads(json.dumps(results))
    broken["cells"]["base"]["runs"][0]["test"]["l2"]["100"] += 0.001
    assert ablations["fill"](page, broken) != page


def test_ablations_use_the_validation_split_if_it_was_evaluated(ablations: dict[str, Any], results: Any) -> None:
    judged = json.loads(json.dumps(results))
    for cell in judged["cells"].values():
        for run in cell["runs"]:
            run["validation_final"] = {"l2": {"100": 2 * run["test"]["l2"]["100"]}}
    assert "validation L2 at 100" not in ablations["_table"]("replay", results)
    assert "| validation L2 at 100 | test L2 at 100 |" in ablations["_table"]("replay", judged)
    assert "| wgan_gp-alone | base | test L2 at 100 | +0.00941 ± 0.03227 | undecided |" in ablations["_differences"](
        results
    )
    assert "| validation L2 at 100 | +0.01882 ± 0.06454 | undecided |" in ablations["_differences"](judged)


def test_cells_of_the_test_split_are_measured_again(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"old/0": {"l2": {}}, "new/0": {"split": "validation"}}')
    assert [has_cell(tmp_path / "report.json", key) for key in ("old/0", "new/0", "none/0")] == [False, True, False]


def test_every_cell_of_the_ablations_has_three_seeds_of_one_kind(ablations: dict[str, Any], results: Any) -> None:
    for name, cell in results["cells"].items():
        assert [run["seed"] for run in cell["runs"]] == [0, 1, 2], name
        assert {key: str(value) for key, value in cell["changes"].items()} == {
            key: str(value) for key, value in ablations["CELLS"][name].items()
        }
        assert len({(run["commit"], run["data"], run["updates"]) for run in cell["runs"]}) == 1, name


def test_runs_outside_the_study_have_no_cell(ablations: dict[str, Any]) -> None:
    names = ("study-wgan_gp-alone-2", "other-1")
    runs = [SimpleNamespace(tags={"dvc.experiment": name}) for name in names]
    assert [ablations["_identity"](run) for run in runs] == [("wgan_gp-alone", 2), ("", 0)]
