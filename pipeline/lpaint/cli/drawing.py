"""``lpaint render`` and ``lpaint replay``: paintings drawn again from their strokes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpaint.cli.options import (
    DEFAULT_FPS,
    DEFAULT_SECONDS,
    Animate,
    Device,
    DeviceOption,
    Fps,
    Onnx,
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
from lpaint.cli.streams import say
from lpaint.errors import ParamsError

if TYPE_CHECKING:
    from lpaint.painting.io.outputs import Saving


def render(
    file: Annotated[Path, typer.Argument(metavar="STROKES.json", help="What paint -o NAME.json wrote.")],
    output: Annotated[
        list[Path],
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to write, by suffix, as for paint; may be repeated."
        ),
    ],
    onnx: Onnx = None,
    size: Size = None,
    scale: Scale = None,
    animate: Animate = False,
    fps: Fps = None,
    seconds: Seconds = None,
    overwrite: Overwrite = False,
    device: DeviceOption = Device.auto,
    threads: Threads = 0,
) -> None:
    """Draw a painting's strokes again, at any size and as any kind of file."""
    from lpaint.painting.io.outputs import Saving

    wanted = wanted_size(size, scale)
    saving = Saving(animate, *film_options(animate, fps, seconds, {path.suffix.lower() for path in output}))
    _draw(file, output, wanted, saving, overwrite, onnx, device, threads)


def replay(
    file: Annotated[Path, typer.Argument(metavar="STROKES.json", help="What paint -o NAME.json wrote.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A .mp4, .gif or .webp.  [default: <stem>.mp4]"),
    ] = None,
    onnx: Onnx = None,
    size: Size = None,
    fps: Fps = None,
    seconds: Seconds = None,
    overwrite: Overwrite = False,
    device: DeviceOption = Device.auto,
    threads: Threads = 0,
) -> None:
    """Make the time-lapse of a painting from its strokes."""
    from lpaint.painting.io.outputs import Saving
    from lpaint.painting.io.timelapse import TIMELAPSES

    target = output or Path(f"{file.stem}.mp4")
    if target.suffix.lower() not in TIMELAPSES:
        raise ParamsError(f"{target}: is no time-lapse; use {', '.join(TIMELAPSES)}")
    saving = Saving(True, fps or DEFAULT_FPS, seconds or DEFAULT_SECONDS)
    _draw(file, [target], wanted_size(size, None), saving, overwrite, onnx, device, threads)


def _draw(
    file: Path,
    outputs: list[Path],
    wanted: Wanted,
    saving: "Saving",
    overwrite: bool,
    onnx: Path | None,
    device: Device,
    threads: int,
) -> None:
    from lpaint.cli.files import Job, outputs_to_write, sweep_outputs
    from lpaint.painting.io.outputs import check_fit, check_output, save
    from lpaint.painting.io.strokefile import check_family, read_strokes
    from lpaint.painting.picture import Painting

    if len(set(outputs)) < len(outputs):
        raise ParamsError("-o: the same output is named twice")
    for path in outputs:
        check_output(path, saving)
    targets = outputs_to_write(Job(file, tuple(outputs)), overwrite, skip_existing=False)
    found = read_strokes(file)
    height, width = sized(wanted, found.height, found.width)
    for path in targets:
        check_fit(path, saving, height, width)
    model = load_model(onnx, device, threads, announce=False)
    check_family(file, found, model.family, model.parameters)
    sweep_outputs(targets)
    painted = Painting(found.strokes, height, width)
    for path in targets:
        save(path, model, painted, saving)
        say(f"{path}: {len(found.strokes)} strokes")
