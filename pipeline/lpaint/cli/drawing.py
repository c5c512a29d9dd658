"""``lpaint render`` and ``lpaint replay``: paintings drawn again from their strokes."""

from pathlib import Path
from typing import Annotated

import typer

from lpaint.cli.options import (
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
    load_model,
    sized,
    wanted_size,
)
from lpaint.errors import ParamsError


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
    fps: Fps = 25.0,
    seconds: Seconds = 8.0,
    overwrite: Overwrite = False,
    device: DeviceOption = Device.auto,
    threads: Threads = 0,
) -> None:
    """Draw a painting's strokes again, at any size and as any kind of file."""
    from lpaint.cli.files import Job, outputs_to_write
    from lpaint.painting.outputs import Saving, check_output, save
    from lpaint.painting.picture import Painted
    from lpaint.painting.strokefile import check_family, read_strokes

    wanted = wanted_size(size, scale)
    saving = Saving(animate, fps, seconds)
    for path in output:
        check_output(path, saving)
    targets = outputs_to_write(Job(file, tuple(output)), overwrite, skip_existing=False)
    found = read_strokes(file)
    model = load_model(onnx, device, threads, announce=False)
    check_family(file, found, model.family, model.parameters)
    height, width = sized(wanted, found.height, found.width)
    painted = Painted(found.strokes, height, width)
    for path in targets:
        save(path, model, painted, saving)
        typer.echo(f"{path}: {len(found.strokes)} strokes")


def replay(
    file: Annotated[Path, typer.Argument(metavar="STROKES.json", help="What paint -o NAME.json wrote.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A .mp4, .gif or .webp.  [default: <stem>.mp4]"),
    ] = None,
    onnx: Onnx = None,
    size: Size = None,
    fps: Fps = 25.0,
    seconds: Seconds = 8.0,
    overwrite: Overwrite = False,
    device: DeviceOption = Device.auto,
    threads: Threads = 0,
) -> None:
    """Make the time-lapse of a painting from its strokes."""
    from lpaint.painting.film import FILMS

    target = output or Path(f"{file.stem}.mp4")
    if target.suffix.lower() not in FILMS:
        raise ParamsError(f"{target}: is no time-lapse; use {', '.join(FILMS)}")
    render(file, [target], onnx, size, None, True, fps, seconds, overwrite, device, threads)
