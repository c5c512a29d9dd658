"""``lpaint paint``: it needs no more than the base install, and no torch."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpaint.cli.options import (
    Animate,
    Device,
    DeviceOption,
    Fps,
    Onnx,
    Outputs,
    Overwrite,
    Scale,
    Seconds,
    Size,
    Threads,
    Wanted,
    film_options,
    load_model,
    sized,
    wanted_size,
)
from lpaint.cli.streams import complain, say
from lpaint.errors import DISK_ERRORS, ExitCode, LpaintError, ParamsError, StreamError
from lpaint.runtime.interruption import raise_if_interrupted

if TYPE_CHECKING:
    import numpy as np

    from lpaint.cli.files import Job, Naming
    from lpaint.painting.io.outputs import Saving
    from lpaint.painting.onnx_model import OnnxPainter
    from lpaint.painting.picture import Plan

# What Plan takes; the help tells it without loading numpy.
DEFAULT_STROKES = 1000
DEFAULT_STEPS = 5
DEFAULT_EFFORT = 8
DEFAULT_COLOURS = 16
# Most characters of a picture's name beside its progress bar.
_LABEL = 40


class Detail(StrEnum):
    """Presets of --strokes and --effort."""

    low = "low"
    medium = "medium"
    high = "high"


class Alpha(StrEnum):
    """What becomes of a picture's transparency."""

    flatten = "flatten"
    keep = "keep"


class Order(StrEnum):
    """In which order strokes are laid."""

    painted = "painted"
    large_first = "large-first"


class Format(StrEnum):
    """Kinds of files that a painting can be."""

    png = "png"
    jpg = "jpg"
    webp = "webp"
    gif = "gif"
    mp4 = "mp4"
    svg = "svg"
    json = "json"


_DETAILS = {Detail.low: (250, 8), Detail.medium: (DEFAULT_STROKES, DEFAULT_EFFORT), Detail.high: (4000, 16)}


def paint(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of any size and mode, folders of them, or -.")
    ],
    onnx: Onnx = None,
    output: Outputs = None,
    out_dir: Annotated[
        Path | None, typer.Option(help="Write each painting to DIR/<stem>.png; folders are mirrored.", metavar="DIR")
    ] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Kind of file where none is named; may be repeated.  [default: png]"),
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders' folders too.")] = False,
    overwrite: Overwrite = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave out what is there already.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first picture that fails.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse pictures that are cut off, instead of a warning.")
    ] = False,
    strokes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            help=f"Strokes, where the error is largest.  [default: {DEFAULT_STROKES}, or those of the agent's episode "
            "if it paints by one]",
        ),
    ] = None,
    detail: Annotated[
        Detail | None,
        typer.Option(help="Instead of --strokes and --effort: 250 strokes, 1,000, or 4,000 chosen with more care."),
    ] = None,
    effort: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help=f"Tiles that the agent is asked about before strokes are chosen; more take longer, with less error. "
            f" [default: {DEFAULT_EFFORT}]",
        ),
    ] = None,
    divide: Annotated[
        int | None, typer.Option(min=1, max=64, help="Instead: paint the whole, then a grid of N x N tiles, evenly.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help=f"With --divide: bundles of strokes a tile.  [default: {DEFAULT_STEPS}]"),
    ] = None,
    size: Size = None,
    scale: Scale = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOUR",
            help="Bare canvas and what transparency is laid on: a name or #rrggbb.  [default: the agent's own; white]",
        ),
    ] = None,
    alpha: Annotated[Alpha, typer.Option(help="Transparency: lay on the background, or keep in PNG and WebP.")] = (
        Alpha.flatten
    ),
    stroke_order: Annotated[Order, typer.Option(help="As painted, or large strokes first.")] = Order.painted,
    animate: Animate = False,
    fps: Fps = None,
    seconds: Seconds = None,
    pixel_art: Annotated[
        int | None, typer.Option(min=2, max=4096, help="Turn the painting into pixel art of so many cells across.")
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(
            metavar="K|FILE",
            help="With --pixel-art: how many colours, or a file of them (.hex, .gpl).  [default: 16]",
        ),
    ] = None,
    dither: Annotated[bool, typer.Option("--dither", help="With --pixel-art: mix colours by patterns.")] = False,
    device: DeviceOption = Device.auto,
    threads: Threads = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say each painting's size and time.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON instead.")] = False,
) -> None:
    """Paint pictures with an exported agent.

    Each painting is as large as its picture, or as --size says; strokes are not cut at tiles' edges; the same command
    gives the same painting. Nothing is overwritten unless you say so. A picture that cannot be read is reported, the
    others are painted, and the exit code is then 1.
    """
    # numpy multiplies small matrices here, between ONNX Runtime's own threads; a second pool only gets in their way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from lpaint.cli.files import Naming, make_out_dir, plan_jobs, sweep_outputs
    from lpaint.images.decoding import WHITE
    from lpaint.painting.io.image import STDIO, parse_colour
    from lpaint.painting.io.outputs import PixelArt, Saving
    from lpaint.painting.picture import Plan

    if overwrite and skip_existing:
        raise ParamsError("--overwrite and --skip-existing contradict each other; give the one or the other")
    if quiet and verbose:
        raise ParamsError("--quiet and --verbose contradict each other; give the one or the other")
    ground = None if background is None else parse_colour(background)
    wanted = wanted_size(size, scale)
    plan = Plan(*_spending(strokes, detail, effort, divide, steps), ground, stroke_order.value)
    _check_pixel_art(pixel_art, palette, dither, alpha)
    naming = Naming(tuple(output or ()), out_dir, tuple(kind.value for kind in formats or ()) or ("png",))
    cells = None if pixel_art is None else PixelArt(pixel_art, _palette(palette), dither)
    rate, duration = film_options(animate, fps, seconds, naming.suffixes)
    saving = Saving(animate, rate, duration, cells, alpha is Alpha.keep)
    jobs, left_out = plan_jobs(images, recursive, naming, saving)
    to_stdout = any(STDIO in job.outputs for job in jobs)
    _check_kinds(naming, bool(formats), to_stdout, saving)
    if sum(job.source == STDIO for job in jobs) > 1:
        raise ParamsError("standard input can be read only once; name - once")
    if to_stdout and as_json:
        raise ParamsError("--json and a painting would both go to standard output; name a file by -o")
    if to_stdout and sys.stdout is not None and sys.stdout.isatty():
        raise ParamsError("a terminal cannot show the painting; send it to a file by > FILE or -o FILE")
    model = load_model(onnx, device, threads, announce=not quiet and not as_json, warn=not quiet)
    _check_effort(effort, plan, model)
    if out_dir is not None:
        make_out_dir(out_dir)
    sweep_outputs(output for job in jobs for output in job.outputs)
    work = _Work(model, plan, saving, wanted, ground or WHITE, f".{naming.formats[0]}", strict)
    voice = _Voice(quiet or as_json, verbose, to_stdout)
    if str(left_out) and not voice.silent:
        complain(f"left out: {left_out}")
    for job in jobs:
        work.do(job, overwrite, skip_existing, voice)
        if fail_fast and work.failed:
            break
    if as_json:
        summary = {"painted": work.painted, "skipped": work.skipped, "failed": work.failed}
        voice.print(json.dumps(summary | {"left_out": dict(left_out.counts)}, indent=2))
    if len(work.failed) and len(jobs) > 1 and not as_json:
        names = ", ".join(failure["input"] for failure in work.failed)
        complain(f"{len(work.failed)} of {len(jobs)} pictures failed: {names}")
    if voice.problem:
        complain(f"error: {voice.problem}; no painting is lost by that")
    if work.unforeseen:
        raise typer.Exit(ExitCode.UNEXPECTED)
    if work.failed or voice.problem:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _check_pixel_art(cells: int | None, palette: str | None, dither: bool, alpha: Alpha) -> None:
    """Refuse options that are for pixel art alone, and those that pixel art cannot heed."""
    for name, given in (("--palette", palette is not None), ("--dither", dither)):
        if given and cells is None:
            raise ParamsError(f"{name} is for pixel art; add --pixel-art N, or leave it out")
    if cells is not None and alpha is Alpha.keep:
        raise ParamsError("--alpha keep: pixel art has no transparency; leave out the one or the other")


def _check_kinds(naming: "Naming", formats: bool, to_stdout: bool, saving: "Saving") -> None:
    """Refuse options that none of the outputs heeds."""
    if formats and naming.outputs and not to_stdout:
        raise ParamsError("--format is for outputs that -o does not name; leave out the one or the other")
    if to_stdout and len(naming.formats) > 1:
        raise ParamsError("standard output takes one painting; give one --format, or name files by -o")
    if saving.keep_alpha and not any(saving.keeps_alpha(suffix) for suffix in naming.suffixes):
        raise ParamsError("--alpha keep: only PNG and WebP stills can be transparent; write one, or leave it out")


def _spending(
    strokes: int | None, detail: Detail | None, effort: int | None, divide: int | None, steps: int | None
) -> tuple[int | None, int, int, int]:
    """Strokes, divide, steps and effort, after options that contradict each other are refused."""
    grid = divide is not None or steps is not None
    for name, value in (("--strokes", strokes), ("--effort", effort), ("--detail", detail)):
        if grid and value is not None:
            raise ParamsError(f"{name} spends strokes by error, --divide and --steps evenly; give the one or the other")
    for name, value in (("--strokes", strokes), ("--effort", effort)):
        if detail is not None and value is not None:
            raise ParamsError(f"--detail says strokes and effort; leave out {name}, or give both numbers without it")
    budget, care = _DETAILS[detail] if detail is not None else (strokes, effort)
    return (
        budget,
        (divide or 1) if grid else 0,
        steps or DEFAULT_STEPS,
        care or DEFAULT_EFFORT,
    )


def _check_effort(effort: int | None, plan: "Plan", model: "OnnxPainter") -> None:
    """Refuse --effort where nothing is chosen: within the episode of an agent that paints by one."""
    from lpaint.painting.engine.search import episode_strokes

    most = episode_strokes(model)
    if effort is not None and most is not None and plan.total(model) <= most:
        raise ParamsError(
            f"--effort: this agent paints the {most} strokes of its episode in order and chooses none; leave it out, "
            f"or ask for more --strokes than {most}"
        )


@dataclass
class _Voice:
    """What is said on the way: on stderr where a painting goes to standard output.

    ``problem``: why standard output takes no more. That ends no batch: paintings go to files.
    """

    silent: bool
    verbose: bool
    to_stdout: bool
    problem: str = ""

    def say(self, text: str) -> None:
        if not self.silent and self.to_stdout:
            complain(text)
        elif not self.silent:
            self.print(text)

    def print(self, text: str) -> None:
        """Print on standard output, unless that has failed before."""
        if not self.problem:
            try:
                say(text)
            except StreamError as error:
                self.problem = str(error)
            except BrokenPipeError:
                self.problem = "standard output: its reader is gone"


@dataclass
class _Work:
    """Paints jobs one by one, and remembers what became of each."""

    model: "OnnxPainter"
    plan: "Plan"
    saving: "Saving"
    size: Wanted
    matte: tuple[float, float, float]
    stdout_suffix: str
    strict: bool
    painted: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    unforeseen: bool = False

    def do(self, job: "Job", overwrite: bool, skip_existing: bool, voice: _Voice) -> None:
        """Paint a job; whatever goes wrong with it is told, and the next one can follow.

        Raises:
            KeyboardInterrupt: somebody asked for the end.
        """
        from lpaint.cli.files import check_source, outputs_to_write

        raise_if_interrupted()
        try:
            check_source(job)
            outputs = outputs_to_write(job, overwrite, skip_existing)
            if not outputs:
                self.skipped.append(str(job.source))
                voice.say(f"{job.source}: is painted already")
                return
            self._paint(job, outputs, voice)
        except Exception as error:
            raise_if_interrupted()
            self._fail(job, self._sentence(job, error))

    def _sentence(self, job: "Job", error: Exception) -> str:
        """What went wrong with a job, and what to do about it."""
        if isinstance(error, LpaintError):
            return str(error)
        if isinstance(error, MemoryError):
            return f"{job.source}: painting it needs more memory than there is; ask for a smaller --size"
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            return f"{error.filename or job.source}: {error.strerror}; make room or mend the permissions"
        self.unforeseen = True
        complain(traceback.format_exc())
        return f"{job.source}: cannot be painted, by a fault of lpaint's own; please report the above"

    def _fail(self, job: "Job", sentence: str) -> None:
        complain(f"error: {sentence}")
        self.failed.append({"input": str(job.source), "error": sentence})

    def _paint(self, job: "Job", outputs: list[Path], voice: _Voice) -> None:
        from lpaint.painting.io.image import STDIO, read_picture
        from lpaint.painting.io.outputs import check_fit, save, save_to_stdout
        from lpaint.painting.picture import WORKING_SIDE, paint_picture

        began = time.perf_counter()
        picture = read_picture(job.source, self.matte, WORKING_SIDE, self.strict)
        if picture.flaw:
            name = "standard input" if job.source == STDIO else job.source
            complain(f"warning: {name}: {picture.flaw}; it is painted as far as it goes, --strict refuses it")
        size = sized(self.size, *picture.size)
        for output in outputs:
            check_fit(output, self.saving, *size, suffix=self.stdout_suffix if output == STDIO else "")
        with _Progress(job.source.name, self.plan.total(self.model), voice.silent) as on_progress:
            painted = paint_picture(self.model, picture.colour, self.plan, size, on_progress)
        for output in outputs:
            if output == STDIO:
                save_to_stdout(self.stdout_suffix, self.model, painted, self.saving, picture.alpha)
            else:
                save(output, self.model, painted, self.saving, picture.alpha)
        seconds = time.perf_counter() - began
        more = f", {painted.width} x {painted.height}, {seconds:.1f} s" if voice.verbose else ""
        for output in outputs:
            voice.say(f"{output}: {len(painted.strokes)} strokes{more}")
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


def _palette(value: str | None) -> "np.ndarray | int":
    """A number of colours, or the colours of a file."""
    from lpaint.painting.io.pixelart import read_palette

    if value is None:
        return DEFAULT_COLOURS
    if not value.isdecimal():
        return read_palette(Path(value))
    if not 2 <= int(value) <= 256:
        raise ParamsError(f"--palette {value}: give 2 to 256 colours, or a file of them")
    return int(value)


class _Progress:
    """A progress bar on stderr where that is a terminal, nothing elsewhere."""

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
            # The terminal can be gone.
            with suppress(OSError):
                self._bar.stop()
