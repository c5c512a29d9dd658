"""The ``lpaint`` command. Each command imports what it needs when it runs; painting never imports torch."""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core

from lpaint import __version__
from lpaint.cli import data, diagnostics, experiments, models, painting, profiles, rendering, resume, streams
from lpaint.errors import DISK_ERRORS, ExitCode, LpaintError
from lpaint.runtime.interruption import interrupt_on_signals


class _Commands(typer.core.TyperGroup):
    """The root group. Help is drawn in panels; usage errors stay plain lines, as lpaint's own errors are."""

    def main(self, *args: Any, **extra: Any) -> Any:
        # Typer reads the mode of errors here, and that of help when it formats the help.
        self.rich_markup_mode = None
        return super().main(*args, **extra)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.rich_markup_mode = "rich"
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        # Typer would handle KeyboardInterrupt itself and end silently.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None


app = typer.Typer(
    name="lpaint",
    cls=_Commands,
    help="Paint pictures with a trained agent, and train agents.",
    epilog="Exit codes: 0 ok, 1 some pictures failed, 2 usage or params, 3 model, 4 device, 5 data, 70 a bug in "
    "lpaint, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_PAINTING, _MODELS, _TRAINING = "Painting", "Models", "Training and experiments"
app.command(rich_help_panel=_PAINTING)(painting.paint)
app.command(rich_help_panel=_PAINTING)(rendering.render)
app.command(rich_help_panel=_PAINTING)(rendering.animate)
app.command("replay", hidden=True)(rendering.replay)
app.command(rich_help_panel=_PAINTING)(diagnostics.info)
app.command(rich_help_panel=_PAINTING)(diagnostics.doctor)
app.command(rich_help_panel=_MODELS)(models.pull)
app.command(rich_help_panel=_MODELS)(models.promote)
app.command(rich_help_panel=_TRAINING)(experiments.strokes)
app.command(rich_help_panel=_TRAINING)(experiments.gans)
app.command(rich_help_panel=_TRAINING)(experiments.bench)
app.command(rich_help_panel=_TRAINING)(experiments.compare)
app.add_typer(profiles.app, name="profile", rich_help_panel=_TRAINING)
app.add_typer(data.app, name="data", rich_help_panel=_TRAINING)
app.add_typer(experiments.track_app, name="track", rich_help_panel=_TRAINING)
app.add_typer(resume.app, name="resume", rich_help_panel=_TRAINING)

# Packages of the training commands that the base install leaves out.
_PIPELINE_ONLY = {"mlflow", "pydantic", "ruamel", "torch", "scipy", "matplotlib", "tqdm"}


class _InterruptedError(Exception):
    """Ctrl-C, SIGTERM or SIGHUP, as an exception that Typer does not handle."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. A user's error prints one sentence on stderr and sets a documented exit code."""
    streams.prepare()
    sys.exit(streams.flush_at_exit(_run(arguments)))


def _run(arguments: Sequence[str] | None) -> int:
    """Run the command; its exit code."""
    try:
        with interrupt_on_signals():
            app(args=None if arguments is None else list(arguments), prog_name="lpaint")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK if end.code is None else ExitCode.SOME_FAILED
    except LpaintError as error:
        return _report_error(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _PIPELINE_ONLY:
            return _report_bug()
        hint = "install the pipeline's packages with pip install '.[pipeline]' in lpaint's repository"
        return _report_error(
            f"this command needs {error.name}, which the base install leaves out; {hint}", ExitCode.USAGE
        )
    except (_InterruptedError, KeyboardInterrupt):
        streams.print_stderr("interrupted; nothing half-written was left")
        return ExitCode.INTERRUPTED
    except OSError as error:
        # Typer prints help and version itself, so a full disk behind standard output raises here.
        if error.filename is None and (code := streams.flush_at_exit(ExitCode.OK)):
            return code
        if error.errno not in DISK_ERRORS:
            return _report_bug()
        where = error.filename or "an output"
        sentence = f"{where}: {error.strerror}; check the name, the free space and the permissions"
        return _report_error(sentence, ExitCode.SOME_FAILED)
    except Exception:
        return _report_bug()
    return ExitCode.OK


def _report_error(sentence: str, code: ExitCode) -> ExitCode:
    streams.print_stderr(f"error: {sentence}")
    return code


def _report_bug() -> ExitCode:
    """Print the traceback of an unexpected exception."""
    streams.print_stderr(traceback.format_exc())
    return _report_error("this is a bug in lpaint; please report the above", ExitCode.UNEXPECTED)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lpaint {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, metavar="", help="Show the version and exit."),
    ] = False,
) -> None: ...
