"""``lpaint render`` and ``lpaint animate``: draw a painting again from its strokes file."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpaint.cli.options import (
    DEFAULT_FPS,
    DEFAULT_SECONDS,
    OUTPUT,
    Animate,
    Device,
    DeviceOption,
    Fps,
    Onnx,
    Overwrite,
    RequestedSize,
    Scale,
    Seconds,
    Size,
    Threads,
    load_model,
    output_size,
    parse_size,
    timelapse_options,
)
from lpaint.cli.streams import print_stderr, print_stdout
from lpaint.errors import ParamsError

if TYPE_CHECKING:
    from lpaint.painting.io.outputs import Saving

StrokesFile = Annotated[
    Path, typer.Argument(metavar="STROKES.json", help="A strokes file, written by paint -o NAME.json.")
]
Film = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Output .mp4, .gif or .webp.  \\[default: <stem>.mp4]",
        rich_help_panel=OUTPUT,
    ),
]


def render(
    file: StrokesFile,
    output: Annotated[
        list[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Output file, in the formats of paint. May be repeated.",
            rich_help_panel=OUTPUT,
        ),
    ],
    overwrite: Overwrite = False,
    size: Size = None,
    scale: Scale = None,
    animate: Animate = False,
    fps: Fps = None,
    seconds: Seconds = None,
    onnx: Onnx = None,
    device: DeviceOption = Device.auto,
    threads: Threads = 0,
) -> None:
    """Draw a strokes file again, at any size and in any format."""
    from lpaint.painting.io.outputs import Saving

    requested = parse_size(size, scale)
    saving = Saving(animate, *timelapse_options(animate, fps, seconds, {path.suffix.lower() for path in output}))
    _draw(file, output, requested, saving, overwrite, onnx, device, threads)


def animate(
    file: StrokesFile,
    output: Film = None,
    overwrite: Overwrite = False,
    size: Size = None,
    fps: Fps = None,
    seconds: Seconds = None,
    onnx: Onnx = None,
    device: DeviceOption = Device.auto,
    threads: Threads = 0,
) -> None:
    """Make a time-lapse of a strokes file."""
    from lpaint.painting.io.outputs import Saving
    from lpaint.painting.io.timelapse import TIMELAPSES

    target = output or Path(f"{file.stem}.mp4")
    if target.suffix.lower() not in TIMELAPSES:
        raise ParamsError(f"{target}: is no time-lapse; use {', '.join(TIMELAPSES)}")
    saving = Saving(True, fps or DEFAULT_FPS, seconds or DEFAULT_SECONDS)
    _draw(file, [target], parse_size(size, None), saving, overwrite, onnx, device, threads)


@functools.wraps(animate)
def replay(**options: Any) -> None:
    print_stderr("warning: lpaint replay is now lpaint animate; the next release drops the old name")
    animate(**options)


def _draw(
    file: Path,
    outputs: list[Path],
    requested: RequestedSize,
    saving: "Saving",
    overwrite: bool,
    onnx: Path | None,
    device: Device,
    threads: int,
) -> None:
    from lpaint.cli.jobs import Job, outputs_to_write, sweep_outputs
    from lpaint.painting.io.outputs import check_fit, check_output, save
    from lpaint.painting.io.strokefile import check_family, read_strokes
    from lpaint.painting.picture import Painting

    if len(set(outputs)) < len(outputs):
        raise ParamsError("-o: the same output is named twice")
    for path in outputs:
        check_output(path, saving)
    targets = outputs_to_write(Job(file, tuple(outputs)), overwrite, skip_existing=False)
    found = read_strokes(file)
    height, width = output_size(requested, found.height, found.width)
    for path in targets:
        check_fit(path, saving, height, width)
    model = load_model(onnx, device, threads, announce=False)
    check_family(file, found, model.family, model.parameters)
    sweep_outputs(targets)
    painted = Painting(found.strokes, height, width)
    for path in targets:
        save(path, model, painted, saving)
        print_stdout(f"{path}: {len(found.strokes)} strokes")
