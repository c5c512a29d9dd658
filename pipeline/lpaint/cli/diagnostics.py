"""``lpaint info`` describes a model; ``lpaint doctor`` checks the installation."""

from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.options import AsJson, Onnx, show_table
from lpaint.cli.streams import print_stdout
from lpaint.errors import ExitCode


def info(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An actor.onnx.")], as_json: AsJson = False
) -> None:
    """Describe an exported agent: its strokes, its training, its tensors."""
    from lpaint.painting.onnx_model import describe

    show_table(describe(model), as_json)


def doctor(
    onnx: Onnx = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", metavar="", help="Repair what moving the repository broke: MLflow's store, dead links."),
    ] = False,
) -> None:
    """Check the installation: packages, ONNX Runtime, GPU, model, store.

    The exit code is 1 if there is a problem.
    """
    from lpaint.doctor import examine

    findings = examine(onnx, fix)
    for finding in findings:
        print_stdout(f"{'ok     ' if finding.ok else 'PROBLEM'}  {finding.subject}: {finding.text}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(ExitCode.SOME_FAILED)
