"""``lpaint info`` and ``lpaint doctor``: what a model is, and whether all is well."""

from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.options import Onnx, show_table
from lpaint.cli.streams import say
from lpaint.errors import ExitCode


def info(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An actor.onnx.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what an exported agent is: its strokes, its training, its tensors."""
    from lpaint.painting.onnx_model import describe

    show_table(describe(model), as_json)


def doctor(
    onnx: Onnx = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Mend what a move of the repository broke: MLflow's store, dead links."),
    ] = False,
) -> None:
    """Check the installation: packages, ONNX Runtime, GPU, model, store; the exit code is 1 if something is wrong."""
    from lpaint.doctor import examine

    findings = examine(onnx, fix)
    for finding in findings:
        say(f"{'ok     ' if finding.fine else 'PROBLEM'}  {finding.subject}: {finding.text}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(ExitCode.SOME_FAILED)
