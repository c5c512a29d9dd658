"""The ``lpaint`` command. Nothing heavy is imported before a command needs it, and painting never imports torch."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lpaint import __version__
from lpaint.cli import checks, data, drawing, laboratory, painting, profiles, resume
from lpaint.errors import ExitCode, LpaintError

app = typer.Typer(
    name="lpaint",
    help="Paint pictures with a trained agent, and set up its training.",
    epilog="Exit codes: 0 ok, 1 some pictures failed, 2 usage or params, 3 model, 4 device, 5 data, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(painting.paint)
app.command()(drawing.render)
app.command()(drawing.replay)
app.command()(checks.info)
app.command()(checks.doctor)
app.command()(laboratory.strokes)
app.command()(laboratory.gans)
app.command()(laboratory.bench)
app.command()(laboratory.compare)
app.command()(laboratory.promote)
app.command()(laboratory.pull)
app.add_typer(profiles.app, name="profile")
app.add_typer(data.app, name="data")
app.add_typer(laboratory.track_app, name="track")
app.add_typer(resume.app, name="resume")

# What the commands about training import beyond the base install.
_PIPELINE_ONLY = {"mlflow", "pydantic", "ruamel", "torch", "scipy", "matplotlib", "tqdm"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every error of the user's is one sentence on stderr and a documented exit code."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="lpaint")
    except LpaintError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _PIPELINE_ONLY:
            raise
        hint = "install the pipeline's packages with pip install '.[pipeline]' in lpaint's repository"
        typer.echo(f"error: this command needs {error.name}, which the base install leaves out; {hint}", err=True)
        sys.exit(ExitCode.USAGE)
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing half-written was left", err=True)
        sys.exit(ExitCode.INTERRUPTED)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lpaint {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...
