"""The notebook for hosted GPUs, executed from top to bottom at smoke size."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers.repository import ROOT, Repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
NOTEBOOK = ROOT / "docs/lpaint.ipynb"


def test_notebook_is_committed_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, 4).cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")


def test_notebook_runs(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.commit()
    notebook = nbformat.read(NOTEBOOK, 4)
    client = NotebookClient(notebook, timeout=1000, resources={"metadata": {"path": str(tmp_path / "docs")}})
    client.execute(env=repository.environment | {"LPAINT_PROFILE": "smoke"})
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "2 trainings in 2 groups compared" in said and "strokes; the first: Stroke(" in said
    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in output["data"] for output in shown) >= 4
    assert "<svg" in (tmp_path / "painted.svg").read_text() and (tmp_path / "exports/actor.onnx").exists()
