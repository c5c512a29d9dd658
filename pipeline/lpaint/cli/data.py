"""``lpaint data``: pictures to train on."""

from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.options import show_table
from lpaint.errors import ExitCode

app = typer.Typer(help="Pictures to train on.", no_args_is_help=True, rich_markup_mode=None)


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="An archive or a folder: CelebA, MNIST, SVHN, or images of your own.")],
    everything: Annotated[bool, typer.Option("--all", help="Decode every image, not a sample.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a path holds, what is wrong with it and how to train on it; the exit code is 5 if it cannot be used."""
    from lpaint.data.inspection import inspect

    findings = inspect(path, everything, progress=True)
    show_table(findings.as_dict() if as_json else findings.table(), as_json)
    if not findings.usable:
        raise typer.Exit(ExitCode.DATA)
