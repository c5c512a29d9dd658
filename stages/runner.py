"""Run a stage: read the parameters, call its function in a tracked run, report errors as one sentence."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

from lpaint.errors import DISK_ERRORS, ExitCode, LpaintError, ParamsError
from lpaint.files import remove_stale_partials
from lpaint.runtime.artifacts import OUTPUT_FOLDERS
from lpaint.runtime.interruption import interrupt_on_signals
from lpaint.runtime.messages import flush_streams, notify
from lpaint.runtime.params import Params, load_params
from lpaint.runtime.paths import mismatched_install
from lpaint.runtime.provenance import record_output
from lpaint.tracking import NullTracker, Tracker, start_run

Run = Callable[[Params, Tracker], None]


def run_stage(
    name: str, run: Run, outputs: Sequence[Path] = (), processes: AbstractContextManager[bool] | None = None
) -> None:
    """Run a stage on ``params.yaml`` of the current folder; exit with the documented code on an error.

    Args:
        name: the stage's name, as in dvc.yaml.
        run: does the work.
        outputs: files by whose content later stages find this run.
        processes: joins the processes that run the stage together and gives whether this one is the main one, which
            reports. None for a stage that runs in one process.
    """
    with report_errors(name), processes or _single_process(name) as is_main:
        if is_main and (code := mismatched_install()):
            advice = "remove .venv here and run make setup"
            notify(f"warning: {name}: runs the code in {code}, not this repository's; {advice}")
        for pattern in OUTPUT_FOLDERS:
            for folder in Path().glob(pattern):
                remove_stale_partials(folder, include_legacy=True)
        run_tracked(name, run, outputs, is_main)


@contextmanager
def report_errors(name: str) -> Iterator[None]:
    """Report an error or an interruption in one sentence, then exit with its documented code."""
    try:
        # SIGTERM raises like Ctrl-C, so that the tracked run is closed as killed and does not stay open.
        with interrupt_on_signals():
            yield
    except LpaintError as error:
        _exit(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _exit(f"{name}: interrupted; run the same command again to go on", ExitCode.INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            where = f"{error.filename}: " if error.filename else ""
            advice = "free disk space or fix the permissions, then run the same command again"
            _exit(f"error: {name}: {where}{error.strerror}; {advice}", ExitCode.SOME_FAILED)
        notify(traceback.format_exc().rstrip())
        _exit(f"error: {name}: this is a bug in lpaint; please report the above", ExitCode.UNEXPECTED)


def _exit(sentence: str, code: ExitCode) -> NoReturn:
    """Exit with ``code``, even if the sentence cannot be written."""
    notify(sentence)
    flush_streams()
    sys.exit(code)


@contextmanager
def _single_process(name: str) -> Iterator[bool]:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ParamsError(f"{name}: is the work of one process; start it by python -m stages.{name}, without torchrun")
    yield True


def run_tracked(name: str, run: Run, outputs: Sequence[Path] = (), is_main: bool = True) -> None:
    """As ``run_stage``, but raise errors instead of exiting."""
    params = load_params()
    if not is_main:
        run(params, NullTracker())
        return
    with start_run(name, params) as tracker:
        run(params, tracker)
        for path in outputs:
            record_output(tracker.run_id, path)
