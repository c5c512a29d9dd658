"""``lpaint data``: check training data."""

from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.options import AsJson, show_table
from lpaint.errors import ExitCode

app = typer.Typer(help="Check training data.", no_args_is_help=True, rich_markup_mode="rich")


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="An archive or a folder: CelebA, MNIST, SVHN, or your own images.")],
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Decode all images, not a sample.")] = False,
    as_json: AsJson = False,
) -> None:
    """Report what a path holds, what is wrong with it and how to train on it.

    The exit code is 5 if it cannot be used.
    """
    from lpaint.data.inspection import inspect

    findings = inspect(path, everything, progress=True)
    show_table(findings.as_dict() if as_json else findings.table(), as_json)
    if not findings.usable:
        raise typer.Exit(ExitCode.DATA)
