"""``lpaint resume``: what interrupted trainings left, and its removal."""

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from lpaint.cli.streams import complain, say
from lpaint.errors import ParamsError

app = typer.Typer(help="List and clean what interrupted trainings left to go on from.", no_args_is_help=True)


@app.command("list")
def list_states(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the resume state of this repository: how far each training is, when that was, and what it takes."""
    from lpaint.runtime.resume import list_resume_folders

    found = list_resume_folders()
    if as_json:
        say(json.dumps([asdict(each) for each in found], indent=2))
        return
    if not found:
        say("no training was interrupted here")
    for each in found:
        saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.saved))
        busy = f", process {each.process} is at it" if each.process is not None else ""
        say(f"{each.name}  {each.note}, {saved}, {each.bytes / 1e6:.0f} MB{busy}")


@app.command()
def clean(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="As listed, or their beginnings.")] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="What was saved at least so long ago.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of it.")] = False,
) -> None:
    """Remove resume state; trainings that it belongs to start over. What a process is working on stays."""
    from lpaint.runtime.resume import list_resume_folders, remove_folder, select_folders

    if not (names or everything or older_than is not None):
        raise ParamsError("resume clean: say what, by NAME, --older-than DAYS or --all; `lpaint resume list` shows it")
    if everything and (names or older_than is not None):
        raise ParamsError("resume clean: --all removes everything; leave it out, or leave out NAME and --older-than")
    for each in select_folders(list_resume_folders(), names or [], older_than):
        if remove_folder(each):
            say(f"removed {each.name} ({each.note})")
        else:
            complain(f"kept {each.name}: process {each.process} is at it")
