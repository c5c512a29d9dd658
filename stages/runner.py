"""How every stage runs: parameters in, one typed function, a tracked run, errors as one sentence."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

from lpaint.errors import DISK_ERRORS, ExitCode, LpaintError, ParamsError
from lpaint.files import remove_stale_partials
from lpaint.runtime.interruption import interrupt_on_signals
from lpaint.runtime.messages import flush_streams, notify
from lpaint.runtime.params import Params, load_params
from lpaint.runtime.paths import mismatched_install
from lpaint.runtime.provenance import record_output
from lpaint.tracking import NullTracker, Tracker, start_run

_OUTPUT_FOLDERS = ("data", "data/prepared", "models", "reports", "reports/*", "exports")
Run = Callable[[Params, Tracker], None]


def run_stage(
    name: str, run: Run, outputs: Sequence[Path] = (), together: AbstractContextManager[bool] | None = None
) -> None:
    """Run a stage on ``params.yaml`` of the current folder and exit with its documented code.

    Args:
        name: the stage's name, as in dvc.yaml.
        run: does the work.
        outputs: files by whose content later stages find this run.
        together: joins this process to those that run the stage with it; tells whether this one leads, and reports.
            None for a stage that is one process's work.
    """
    with report_errors(name), together or _alone(name) as leads:
        if leads and (code := mismatched_install()):
            advice = "remove .venv here and run make setup"
            notify(f"warning: {name}: runs the code in {code}, not this repository's; {advice}")
        for pattern in _OUTPUT_FOLDERS:
            for folder in Path().glob(pattern):
                remove_stale_partials(folder, include_legacy=True)
        run_tracked(name, run, outputs, leads)


@contextmanager
def report_errors(name: str) -> Iterator[None]:
    """Exit with an error's documented code after one sentence on it; interruptions are told, too."""
    try:
        # SIGTERM unwinds like Ctrl-C, so that the run is closed as killed instead of staying open for ever.
        with interrupt_on_signals():
            yield
    except LpaintError as error:
        _leave(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _leave(f"{name}: interrupted; run the same command again to go on", ExitCode.INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            where = f"{error.filename}: " if error.filename else ""
            advice = "make room or mend the permissions, then run the same again"
            _leave(f"error: {name}: {where}{error.strerror}; {advice}", ExitCode.SOME_FAILED)
        notify(traceback.format_exc().rstrip())
        _leave(f"error: {name}: this is a fault of lpaint's own; please report the above", ExitCode.UNEXPECTED)


def _leave(sentence: str, code: ExitCode) -> NoReturn:
    """Exit with ``code``, whether or not the sentence can be written."""
    notify(sentence)
    flush_streams()
    sys.exit(code)


@contextmanager
def _alone(name: str) -> Iterator[bool]:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ParamsError(f"{name}: is the work of one process; start it by python -m stages.{name}, without torchrun")
    yield True


def run_tracked(name: str, run: Run, outputs: Sequence[Path] = (), leads: bool = True) -> None:
    """``run_stage`` without the process around it: raises instead of exiting."""
    params = load_params()
    if not leads:
        run(params, NullTracker())
        return
    with start_run(name, params) as tracker:
        run(params, tracker)
        for path in outputs:
            record_output(tracker.run_id, path)
