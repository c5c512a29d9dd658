"""`benchmarks/gpu.py` at its smallest sizes: it runs without a GPU, and no section reports an error."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.repository import ROOT

SCRIPT = ROOT / "benchmarks/gpu.py"


def _check(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, str(SCRIPT), "--out", str(folder / "out"), "--work", str(folder / "work"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    return done.returncode, json.loads((folder / "out/gpu.json").read_text(encoding="utf-8"))


def test_sections_run_at_the_smallest_sizes(tmp_path: Path) -> None:
    code, found = _check(tmp_path, "--smoke", "--only", "env", "kinds", "resume")
    assert not list(runpy.run_path(str(SCRIPT))["errors"](found))
    assert code == 0 and list(found) == ["env", "kinds", "resume"]
    assert found["env"]["versions"]["torch"] and found["env"]["compute"]["device"] in ("cpu", "cuda")
    assert len(found["kinds"]["kinds"]) > 10 and all(each["finite"] for each in found["kinds"]["kinds"].values())
    assert found["resume"]["largest difference"] == 0 and found["resume"]["same random stream"] is True


def test_a_section_that_fails_is_reported_and_costs_no_other(tmp_path: Path) -> None:
    # There is no trained actor to export.
    code, found = _check(tmp_path, "--smoke", "--only", "export", "prepared")
    assert code == 1
    assert found["prepared"]["state"] == "done" and found["prepared"]["pictures"] == 60
    assert found["export"]["state"] == "failed with exit code 1"
    assert "models/actor.safetensors" in found["export"]["failure"]["error"]


def test_sections_beyond_the_budget_are_skipped(tmp_path: Path) -> None:
    code, found = _check(tmp_path, "--smoke", "--budget", "1", "--only", "env")
    assert code == 0 and found["env"]["state"] == "skipped"


@pytest.mark.parametrize("budget", ["-5", "0", "nan"])
def test_a_budget_is_above_0(tmp_path: Path, budget: str) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--budget", budget]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "give the seconds for all sections, above 0" in done.stderr


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        ({"env": {"state": "done", "GPU": {"name": "x"}}}, []),
        ({"ort": {"state": "stopped at its limit of 60 s"}}, ["ort: stopped at its limit of 60 s"]),
        ({"kinds": {"state": "done", "kinds": {"td3": {"error": "broken"}}}}, ["kinds / kinds / td3: broken"]),
    ],
)
def test_errors_are_found_at_any_depth(found: dict[str, Any], problems: list[str]) -> None:
    assert list(runpy.run_path(str(SCRIPT))["errors"](found)) == problems
