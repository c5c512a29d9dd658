"""``lpaint profile``: ready-made parameters."""

from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.options import show_table
from lpaint.cli.streams import print_stdout

app = typer.Typer(help="List, show and apply ready-made parameters.", no_args_is_help=True, rich_markup_mode="rich")


@app.command("list")
def profile_list() -> None:
    """List the profiles of the repository in this folder."""
    from lpaint.runtime.profiles import list_profiles

    show_table(dict(list_profiles(Path())))


@app.command("show")
def profile_show(name: Annotated[str, typer.Argument(help="A profile's name.")]) -> None:
    """Print a profile."""
    from lpaint.runtime.profiles import show_profile

    print_stdout(show_profile(Path(), name).removesuffix("\n"))


@app.command("apply")
def apply(name: Annotated[str, typer.Argument(help="A profile's name.")]) -> None:
    """Merge a profile into params.yaml. Comments are kept."""
    from lpaint.runtime.profiles import apply_profile

    changes = apply_profile(Path(), name)
    for change in changes:
        print_stdout(change)
    print_stdout(f"params.yaml: {len(changes)} values changed by profile {name}")
