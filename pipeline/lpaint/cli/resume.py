"""``lpaint resume``: list and remove the resume state of interrupted trainings."""

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from lpaint.cli.options import AsJson
from lpaint.cli.streams import print_stderr, print_stdout
from lpaint.errors import ParamsError

app = typer.Typer(
    help="List and remove the resume state of interrupted trainings.", no_args_is_help=True, rich_markup_mode="rich"
)


@app.command("list")
def list_states(as_json: AsJson = False) -> None:
    """List the resume state of this repository: progress, time and size of each training."""
    from lpaint.runtime.resume import list_resume_folders

    found = list_resume_folders()
    if as_json:
        print_stdout(json.dumps([asdict(each) for each in found], indent=2))
        return
    if not found:
        print_stdout("there is no resume state here")
    for each in found:
        saved = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.saved))
        busy = f", in use by process {each.process}" if each.process is not None else ""
        print_stdout(f"{each.name}  {each.note}, {saved}, {each.bytes / 1e6:.0f} MB{busy}")


@app.command()
def clean(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names as listed, or their first letters.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="State saved at least this long ago.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="All state.")] = False,
) -> None:
    """Remove resume state. Its trainings then start from the beginning. State in use by a process is kept."""
    from lpaint.runtime.resume import list_resume_folders, remove_folder, select_folders

    if not (names or everything or older_than is not None):
        raise ParamsError("resume clean: give a NAME, --older-than DAYS or --all; `lpaint resume list` shows the names")
    if everything and (names or older_than is not None):
        raise ParamsError("resume clean: --all removes everything; leave it out, or leave out NAME and --older-than")
    for each in select_folders(list_resume_folders(), names or [], older_than):
        if remove_folder(each):
            print_stdout(f"removed {each.name} ({each.note})")
        else:
            print_stderr(f"kept {each.name}: process {each.process} uses it")
