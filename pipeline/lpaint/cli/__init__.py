"""The ``lpaint`` command. Nothing heavy is imported before a command needs it, and painting never imports torch."""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core

from lpaint import __version__
from lpaint.cli import checks, data, drawing, laboratory, painting, profiles, resume, streams
from lpaint.errors import DISK_ERRORS, ExitCode, LpaintError
from lpaint.runtime.interruption import interrupt_on_signals


class _Commands(typer.core.TyperGroup):
    """The commands; interrupted, they tell ``main``. Typer itself would end without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None


app = typer.Typer(
    name="lpaint",
    cls=_Commands,
    help="Paint pictures with a trained agent, and set up its training.",
    epilog="Exit codes: 0 ok, 1 some pictures failed, 2 usage or params, 3 model, 4 device, 5 data, 70 a fault of "
    "lpaint's own, 130 interrupted.",
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


class _InterruptedError(Exception):
    """Ctrl-C, SIGTERM or SIGHUP, as an exception that Typer leaves alone."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every error of the user's is one sentence on stderr and a documented exit code."""
    streams.prepare()
    sys.exit(streams.settle(_run(arguments)))


def _run(arguments: Sequence[str] | None) -> int:
    """The exit code of a call."""
    try:
        with interrupt_on_signals():
            app(args=None if arguments is None else list(arguments), prog_name="lpaint")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK if end.code is None else ExitCode.SOME_FAILED
    except LpaintError as error:
        return _told(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _PIPELINE_ONLY:
            return _unforeseen()
        hint = "install the pipeline's packages with pip install '.[pipeline]' in lpaint's repository"
        return _told(f"this command needs {error.name}, which the base install leaves out; {hint}", ExitCode.USAGE)
    except (_InterruptedError, KeyboardInterrupt):
        streams.complain("interrupted; nothing half-written was left")
        return ExitCode.INTERRUPTED
    except OSError as error:
        # Help and version are printed by Typer, so that a full disk behind standard output is met here.
        if error.filename is None and (code := streams.settle(ExitCode.OK)):
            return code
        if error.errno not in DISK_ERRORS:
            return _unforeseen()
        where = error.filename or "an output"
        return _told(f"{where}: {error.strerror}; check the name, the room and the permissions", ExitCode.SOME_FAILED)
    except Exception:
        return _unforeseen()
    return ExitCode.OK


def _told(sentence: str, code: ExitCode) -> ExitCode:
    streams.complain(f"error: {sentence}")
    return code


def _unforeseen() -> ExitCode:
    """Of an exception that is a fault of lpaint's own."""
    streams.complain(traceback.format_exc())
    return _told("this is a fault of lpaint's own; please report the above", ExitCode.UNEXPECTED)


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
