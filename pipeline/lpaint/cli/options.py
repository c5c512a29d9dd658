"""Options that several commands share, and what they mean together."""

import json
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpaint.cli.streams import complain, say
from lpaint.errors import ParamsError

if TYPE_CHECKING:
    from lpaint.painting.onnx_model import OnnxPainter

# As many as 16,384 x 8,192: a canvas of 1.5 GiB.
_MOST_PIXELS = 1 << 27
_SIZE = re.compile(r"(\d+)(?:x(\d+))?")


class Device(StrEnum):
    """Where ONNX Runtime computes."""

    auto = "auto"
    cuda = "cuda"
    cpu = "cpu"


Onnx = Annotated[
    Path | None, typer.Option(help="The trained agent.  [default: the one that comes with lpaint]", metavar="FILE")
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to write, by suffix: .png .jpg .webp, .svg, .json, or a time-lapse .mp4 .gif; may be repeated; "
        "- is standard output.  [default: <stem>.painted.png here]",
    ),
]
Size = Annotated[
    str | None, typer.Option(metavar="W[xH]", help="Size of the painting, pixels.  [default: the picture's own]")
]
Scale = Annotated[float | None, typer.Option(help="Instead: size of the painting in sizes of the picture.")]
Animate = Annotated[bool, typer.Option("--animate", help="Make .webp a time-lapse.")]
DEFAULT_FPS, DEFAULT_SECONDS = 25.0, 8.0
Fps = Annotated[
    float | None,
    typer.Option(min=1, max=120, help=f"Time-lapse: frames a second.  [default: {DEFAULT_FPS:g}]"),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        min=0.1, max=3600, help=f"Time-lapse: seconds, and two more at its end.  [default: {DEFAULT_SECONDS:g}]"
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over files that are there already.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.")]
Threads = Annotated[int, typer.Option(min=0, max=256, help="CPU threads; 0 = all cores.")]


def show_table(rows: Mapping[str, object], as_json: bool = False) -> None:
    """Print names and what there is to say of each, in two columns or as JSON."""
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        say(f"{name:<{width}}  {value}")


def film_options(
    animate: bool, fps: float | None, seconds: float | None, suffixes: Collection[str]
) -> tuple[float, float]:
    """Frames a second and seconds of time-lapses.

    Raises:
        ParamsError: one of the options is given, but none of the outputs, of these suffixes, is a time-lapse.
    """
    from lpaint.painting.io.outputs import Saving

    if not any(Saving(animate).is_timelapse(suffix) for suffix in suffixes):
        for name, given in (("--animate", animate), ("--fps", fps is not None), ("--seconds", seconds is not None)):
            if given:
                kinds = ".webp" if animate else ".mp4, .gif, or .webp with --animate"
                raise ParamsError(f"{name} is for time-lapses, and no output is one; write {kinds}, or leave it out")
    return fps or DEFAULT_FPS, seconds or DEFAULT_SECONDS


def load_model(onnx: Path | None, device: Device, threads: int, announce: bool, warn: bool = True) -> "OnnxPainter":
    """The agent at ``onnx``, or the one in the box.

    Args:
        announce: say on standard error where ``auto`` computes.
        warn: say there why ``auto`` leaves a GPU alone.
    """
    from lpaint.painting.onnx_model import OnnxPainter, packaged_model

    model = OnnxPainter(onnx or packaged_model(), device.value, threads)
    if warn and model.gpu_problem:
        complain(f"warning: painting on the CPU: {model.gpu_problem}")
    elif announce and device is Device.auto:
        complain(f"painting on the {'GPU (CUDA)' if model.device == 'cuda' else 'CPU'}")
    return model


Wanted = tuple[int | None, int | None, float | None]


def wanted_size(size: str | None, scale: float | None) -> Wanted:
    """Width, height and scale as asked for, each None where it is not."""
    if size is not None and scale is not None:
        raise ParamsError("--size and --scale both say how large the painting is; give the one or the other")
    if scale is not None and not 0 < scale <= 1000:
        raise ParamsError(f"--scale {scale}: give a number above 0 and up to 1000")
    if size is None:
        return None, None, scale
    matched = _SIZE.fullmatch(size)
    if matched is None or not all(int(side) for side in matched.groups(default="1")):
        raise ParamsError(f"--size {size}: give a width such as 1024, or width x height such as 1024x768")
    return int(matched[1]), int(matched[2]) if matched[2] else None, None


def sized(wanted: Wanted, height: int, width: int) -> tuple[int, int]:
    """Height and width of a painting of a picture of ``height`` x ``width``."""
    wide, tall, scale = wanted
    if scale is not None:
        wide, tall = max(1, round(width * scale)), max(1, round(height * scale))
    if wide is None:
        return height, width
    tall = tall if tall is not None else max(1, round(height * wide / width))
    if tall * wide > _MOST_PIXELS:
        raise ParamsError(f"a painting of {wide} x {tall} pixels is too large; the most is {_MOST_PIXELS:,} pixels")
    return tall, wide
