"""``lpaint paint``. It needs only the base install, and no torch."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpaint.cli.options import (
    INPUT,
    LOOK,
    MESSAGES,
    OUTPUT,
    PIXEL_ART,
    STROKES,
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
    load_model,
    parse_size,
    timelapse_options,
)
from lpaint.cli.streams import print_stderr
from lpaint.errors import ExitCode, ParamsError

if TYPE_CHECKING:
    import numpy as np

    from lpaint.cli.jobs import Naming
    from lpaint.painting.io.outputs import Saving
    from lpaint.painting.onnx_model import OnnxPainter
    from lpaint.painting.picture import Plan

# Defaults of Plan, repeated here so that the help need not import numpy.
DEFAULT_STROKES = 1000
DEFAULT_STEPS = 5
DEFAULT_EFFORT = 8
DEFAULT_COLOURS = 16


class Detail(StrEnum):
    """Presets of --strokes and --effort."""

    low = "low"
    medium = "medium"
    high = "high"


class Alpha(StrEnum):
    """What happens to a picture's transparency."""

    flatten = "flatten"
    keep = "keep"


class Order(StrEnum):
    """Order in which strokes are drawn."""

    painted = "painted"
    large_first = "large-first"


class Format(StrEnum):
    """Output formats."""

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
        list[Path],
        typer.Argument(
            metavar="IMAGE", help="Pictures of any size and mode, folders of them, or - for standard input."
        ),
    ],
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive", "-r", metavar="", help="Also search folders inside folders.", rich_help_panel=INPUT
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", metavar="", help="Refuse truncated pictures instead of warning.", rich_help_panel=INPUT
        ),
    ] = False,
    fail_fast: Annotated[
        bool,
        typer.Option("--fail-fast", metavar="", help="Stop at the first picture that fails.", rich_help_panel=INPUT),
    ] = False,
    output: Outputs = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            help="Write each painting to DIR/<stem>.png; folders keep their structure.",
            metavar="DIR",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Format of outputs without a name: png, jpg, webp, gif, mp4, svg or json. May be repeated.  "
            "\\[default: png]",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", metavar="", help="Skip existing files.", rich_help_panel=OUTPUT)
    ] = False,
    strokes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=1_000_000,
            help="Maximum number of strokes. They go where the error is largest; agents trained with `episode` paint "
            f"them in the order of their episode.  \\[default: {DEFAULT_STROKES}; agents trained with `episode`: the "
            "length of their episode]",
            rich_help_panel=STROKES,
        ),
    ] = None,
    detail: Annotated[
        Detail | None,
        typer.Option(
            help="Instead of --strokes and --effort: 250 strokes, 1,000, or 4,000 with more effort.",
            rich_help_panel=STROKES,
        ),
    ] = None,
    effort: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=1024,
            help="Tiles for which the agent proposes strokes in each round; larger is slower, with less error."
            f"  \\[default: {DEFAULT_EFFORT}]",
            rich_help_panel=STROKES,
        ),
    ] = None,
    divide: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=64,
            help="Instead of --strokes: paint the whole picture, then each tile of an N x N grid.",
            rich_help_panel=STROKES,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=1000,
            help=f"With --divide: bundles of strokes per tile.  \\[default: {DEFAULT_STEPS}]",
            rich_help_panel=STROKES,
        ),
    ] = None,
    size: Size = None,
    scale: Scale = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOUR",
            help="Colour of the bare canvas and behind transparency: a name or #rrggbb.  \\[default: canvas as in "
            "training; white behind transparency]",
            rich_help_panel=LOOK,
        ),
    ] = None,
    alpha: Annotated[
        Alpha,
        typer.Option(
            help="Transparency: replace it by the background, or keep it in PNG and WebP.", rich_help_panel=LOOK
        ),
    ] = Alpha.flatten,
    stroke_order: Annotated[
        Order, typer.Option(help="Order of the strokes: as painted, or large ones first.", rich_help_panel=LOOK)
    ] = Order.painted,
    animate: Animate = False,
    fps: Fps = None,
    seconds: Seconds = None,
    pixel_art: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            max=4096,
            help="Turn the painting into pixel art that is this many cells wide.",
            rich_help_panel=PIXEL_ART,
        ),
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(
            metavar="K|FILE",
            help="With --pixel-art: number of colours, or a file of them (.hex, .gpl).  \\[default: 16]",
            rich_help_panel=PIXEL_ART,
        ),
    ] = None,
    dither: Annotated[
        bool,
        typer.Option(
            "--dither",
            metavar="",
            help="With --pixel-art: imitate missing colours with patterns.",
            rich_help_panel=PIXEL_ART,
        ),
    ] = False,
    onnx: Onnx = None,
    device: DeviceOption = Device.auto,
    threads: Threads = 0,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", metavar="", help="Print only warnings and errors.", rich_help_panel=MESSAGES),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", metavar="", help="Print size and time of each painting.", rich_help_panel=MESSAGES
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print a summary as JSON instead.", rich_help_panel=MESSAGES)
    ] = False,
) -> None:
    """Paint pictures with an exported agent.

    A painting has the size of its picture unless you give --size.
    Strokes are not cut at the edges of tiles.
    The same command gives the same painting.
    Existing files are kept unless you give --overwrite.
    If a picture cannot be read, the others are painted and the exit code is 1.
    """
    # numpy multiplies small matrices between the calls of ONNX Runtime; a second thread pool would slow both down.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from lpaint.cli.batch import Batch, Reporter
    from lpaint.cli.jobs import Naming, make_out_dir, plan_jobs, sweep_outputs
    from lpaint.images.decoding import WHITE
    from lpaint.painting.io.image import STDIO, parse_colour
    from lpaint.painting.io.outputs import PixelArt, Saving
    from lpaint.painting.picture import Plan

    if overwrite and skip_existing:
        raise ParamsError("--overwrite and --skip-existing contradict each other; give the one or the other")
    if quiet and verbose:
        raise ParamsError("--quiet and --verbose contradict each other; give the one or the other")
    colour = None if background is None else parse_colour(background)
    requested = parse_size(size, scale)
    plan = Plan(*_stroke_budget(strokes, detail, effort, divide, steps), colour, stroke_order.value)
    _check_pixel_art(pixel_art, palette, dither, alpha)
    naming = Naming(tuple(output or ()), out_dir, tuple(kind.value for kind in formats or ()) or ("png",))
    cells = None if pixel_art is None else PixelArt(pixel_art, _palette(palette), dither)
    rate, duration = timelapse_options(animate, fps, seconds, naming.suffixes)
    saving = Saving(animate, rate, duration, cells, alpha is Alpha.keep)
    jobs, left_out = plan_jobs(images, recursive, naming, saving)
    to_stdout = any(STDIO in job.outputs for job in jobs)
    _check_formats(naming, bool(formats), to_stdout, saving)
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
    reporter = Reporter(quiet or as_json, verbose, to_stdout)
    batch = Batch(model, plan, saving, requested, colour or WHITE, f".{naming.formats[0]}", strict, reporter)
    if str(left_out) and not reporter.silent:
        print_stderr(f"left out: {left_out}")
    for job in jobs:
        batch.run(job, overwrite, skip_existing)
        if fail_fast and batch.failed:
            break
    if as_json:
        summary = {"painted": batch.painted, "skipped": batch.skipped, "failed": batch.failed}
        reporter.print(json.dumps(summary | {"left_out": dict(left_out.counts)}, indent=2))
    if len(batch.failed) and len(jobs) > 1 and not as_json:
        names = ", ".join(failure["input"] for failure in batch.failed)
        print_stderr(f"{len(batch.failed)} of {len(jobs)} pictures failed: {names}")
    if reporter.problem:
        print_stderr(f"error: {reporter.problem}; no painting is lost")
    if batch.unexpected:
        raise typer.Exit(ExitCode.UNEXPECTED)
    if batch.failed or reporter.problem:
        raise typer.Exit(ExitCode.SOME_FAILED)


def _check_pixel_art(cells: int | None, palette: str | None, dither: bool, alpha: Alpha) -> None:
    """Refuse options that need pixel art, and those that pixel art cannot follow."""
    for name, given in (("--palette", palette is not None), ("--dither", dither)):
        if given and cells is None:
            raise ParamsError(f"{name} is for pixel art; add --pixel-art N, or leave it out")
    if cells is not None and alpha is Alpha.keep:
        raise ParamsError("--alpha keep: pixel art has no transparency; leave out the one or the other")


def _check_formats(naming: "Naming", formats: bool, to_stdout: bool, saving: "Saving") -> None:
    """Refuse options that apply to none of the outputs."""
    if formats and naming.outputs and not to_stdout:
        raise ParamsError("--format is for outputs that -o does not name; leave out the one or the other")
    if to_stdout and len(naming.formats) > 1:
        raise ParamsError("standard output takes one painting; give one --format, or name files by -o")
    if saving.keep_alpha and not any(saving.keeps_alpha(suffix) for suffix in naming.suffixes):
        raise ParamsError("--alpha keep: only PNG and WebP stills can be transparent; write one, or leave it out")


def _stroke_budget(
    strokes: int | None, detail: Detail | None, effort: int | None, divide: int | None, steps: int | None
) -> tuple[int | None, int, int, int]:
    """Strokes, divide, steps and effort. Refuses options that contradict each other."""
    grid = divide is not None or steps is not None
    for name, value in (("--strokes", strokes), ("--effort", effort), ("--detail", detail)):
        if grid and value is not None:
            raise ParamsError(f"{name} places strokes by error, --divide and --steps evenly; give the one or the other")
    for name, value in (("--strokes", strokes), ("--effort", effort)):
        if detail is not None and value is not None:
            raise ParamsError(f"--detail sets strokes and effort; leave out {name}, or leave out --detail")
    budget, tiles = _DETAILS[detail] if detail is not None else (strokes, effort)
    return (
        budget,
        (divide or 1) if grid else 0,
        steps or DEFAULT_STEPS,
        tiles or DEFAULT_EFFORT,
    )


def _check_effort(effort: int | None, plan: "Plan", model: "OnnxPainter") -> None:
    """Refuse --effort for an agent that paints the strokes of its episode in order."""
    from lpaint.painting.engine.search import episode_strokes

    most = episode_strokes(model)
    if effort is not None and most is not None and plan.total(model) <= most:
        raise ParamsError(
            f"--effort: this agent paints the {most} strokes of its episode in order and chooses none; leave it out, "
            f"or ask for more --strokes than {most}"
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
