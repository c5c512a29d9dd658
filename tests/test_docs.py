"""What the pages of the documentation say about the program."""

import re
from pathlib import Path

import mlflow
import pytest

from lpaint.runtime.profiles import list_profiles
from tests.helpers.repository import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_tracked_metric_is_in_the_glossary(chain: Path) -> None:
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs/metrics.md").read_text(encoding="utf-8"), re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(.*?)`", row)}
    mlflow.set_tracking_uri(f"sqlite:///{chain / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    logged = {name for run in client.search_runs(experiments) for name in run.data.metrics}
    assert len(logged) > 30 and not logged - explained


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 180 and len(text.split()) <= 1500


def test_readme_lists_the_profiles_as_the_command_does() -> None:
    profiles = list_profiles(ROOT)
    width = max(len(name) for name, _ in profiles)
    lines = [f"{name:<{width}}  {summary}" for name, summary in profiles]
    assert "\n".join(lines) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name) if name else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_of_the_code_that_pages_name_are_there(page: Path) -> None:
    for name in re.findall(r"[\w/]+/\w+\.py", page.read_text(encoding="utf-8")):
        placeholder = name.endswith("/NAME.py")
        assert placeholder or (ROOT / name).exists() or (ROOT / "pipeline/lpaint" / name).exists(), name
