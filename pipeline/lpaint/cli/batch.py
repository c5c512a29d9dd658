"""Painting job by job, with a report on each."""

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpaint.cli.jobs import Job, check_source, outputs_to_write
from lpaint.cli.options import RequestedSize, output_size
from lpaint.cli.streams import print_stderr, print_stdout
from lpaint.errors import DISK_ERRORS, LpaintError, StreamError
from lpaint.painting import picture as painting
from lpaint.painting.io.image import STDIO, read_picture
from lpaint.painting.io.outputs import Saving, check_fit, save, save_to_stdout
from lpaint.painting.onnx_model import OnnxPainter
from lpaint.runtime.interruption import raise_if_interrupted

# Longest name of a picture beside its progress bar, in characters.
_LABEL = 40


@dataclass
class Reporter:
    """Prints progress, on standard error if a painting goes to standard output.

    ``problem``: why standard output can no longer be written. The batch goes on, since paintings go to files.
    """

    silent: bool
    verbose: bool
    to_stdout: bool
    problem: str = ""

    def report(self, text: str) -> None:
        if not self.silent and self.to_stdout:
            print_stderr(text)
        elif not self.silent:
            self.print(text)

    def print(self, text: str) -> None:
        """Print on standard output, unless that failed before."""
        if not self.problem:
            try:
                print_stdout(text)
            except StreamError as error:
                self.problem = str(error)
            except BrokenPipeError:
                self.problem = "standard output: the reader closed the pipe"


@dataclass
class Batch:
    """Paints jobs one by one and records the result of each."""

    model: OnnxPainter
    plan: painting.Plan
    saving: Saving
    size: RequestedSize
    matte: tuple[float, float, float]
    stdout_suffix: str
    strict: bool
    reporter: Reporter
    painted: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    unexpected: bool = False

    def run(self, job: Job, overwrite: bool, skip_existing: bool) -> None:
        """Paint a job. An error is reported and recorded, so that the next job can follow.

        Raises:
            KeyboardInterrupt: the process was asked to end.
        """
        raise_if_interrupted()
        try:
            check_source(job)
            outputs = outputs_to_write(job, overwrite, skip_existing)
            if not outputs:
                self.skipped.append(str(job.source))
                self.reporter.report(f"{job.source}: is painted already")
                return
            self._paint(job, outputs)
        except Exception as error:
            raise_if_interrupted()
            self._fail(job, self._message(job, error))

    def _message(self, job: Job, error: Exception) -> str:
        """What went wrong with a job, and what to do about it."""
        if isinstance(error, LpaintError):
            return str(error)
        if isinstance(error, MemoryError):
            return f"{job.source}: painting it needs more memory than there is; give a smaller --size"
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            return f"{error.filename or job.source}: {error.strerror}; free some space or correct the permissions"
        self.unexpected = True
        print_stderr(traceback.format_exc())
        return f"{job.source}: cannot be painted because of a bug in lpaint; please report the above"

    def _fail(self, job: Job, message: str) -> None:
        print_stderr(f"error: {message}")
        self.failed.append({"input": str(job.source), "error": message})

    def _paint(self, job: Job, outputs: list[Path]) -> None:
        began = time.perf_counter()
        picture = read_picture(job.source, self.matte, painting.WORKING_SIDE, self.strict)
        if picture.flaw:
            name = "standard input" if job.source == STDIO else job.source
            print_stderr(f"warning: {name}: {picture.flaw}; it is painted as far as it goes, --strict refuses it")
        size = output_size(self.size, *picture.size)
        for output in outputs:
            check_fit(output, self.saving, *size, suffix=self.stdout_suffix if output == STDIO else "")
        with ProgressBar(job.source.name, self.plan.total(self.model), self.reporter.silent) as on_progress:
            painted = painting.paint_picture(self.model, picture.colour, self.plan, size, on_progress)
        for output in outputs:
            if output == STDIO:
                save_to_stdout(self.stdout_suffix, self.model, painted, self.saving, picture.alpha)
            else:
                save(output, self.model, painted, self.saving, picture.alpha)
        seconds = time.perf_counter() - began
        more = f", {painted.width} x {painted.height}, {seconds:.1f} s" if self.reporter.verbose else ""
        for output in outputs:
            self.reporter.report(f"{output}: {len(painted.strokes)} strokes{more}")
        self.painted.append(
            {
                "input": str(job.source),
                "outputs": [str(output) for output in outputs],
                "strokes": len(painted.strokes),
                "width": painted.width,
                "height": painted.height,
                "seconds": round(seconds, 3),
                **({"warning": picture.flaw} if picture.flaw else {}),
            }
        )


class ProgressBar:
    """A progress bar on standard error if that is a terminal."""

    def __init__(self, label: str, total: int, silent: bool) -> None:
        self._label, self._total, self._silent = label, total, silent

    def __enter__(self) -> Callable[[int], None] | None:
        self._bar = None
        if self._silent or not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._bar.start()
        task = self._bar.add_task(escape(self._label[:_LABEL]), total=self._total)
        bar = self._bar
        return lambda done: bar.update(task, completed=done)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            # The terminal may be closed.
            with suppress(OSError):
                self._bar.stop()
