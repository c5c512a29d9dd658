"""Options that several commands share, and the checks of their combinations."""

import json
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpaint.cli.streams import print_stderr, print_stdout
from lpaint.errors import ParamsError

if TYPE_CHECKING:
    from lpaint.painting.onnx_model import OnnxPainter

# 16,384 x 8,192 pixels: a canvas of 1.5 GiB.
_MOST_PIXELS = 1 << 27
_SIZE = re.compile(r"(\d+)(?:x(\d+))?")


# Panels of the help. Rich reads [default: ...] in a help text as markup, so it needs a backslash there. An empty
# metavar keeps Typer from printing <bool> beside a flag.
INPUT, OUTPUT, STROKES, LOOK = "Input", "Output", "Strokes", "Size and look"
TIME_LAPSE, PIXEL_ART, MACHINE, MESSAGES = "Time-lapse", "Pixel art", "Model and device", "Messages"


class Device(StrEnum):
    """Where ONNX Runtime computes."""

    auto = "auto"
    cuda = "cuda"
    cpu = "cpu"


Onnx = Annotated[
    Path | None,
    typer.Option(
        help="The trained agent.  \\[default: the one that comes with lpaint]", metavar="FILE", rich_help_panel=MACHINE
    ),
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Output file; its suffix selects the format: .png .jpg .webp, .svg, .json, or a time-lapse .mp4 .gif. "
        "- is standard output. May be repeated.  \\[default: <stem>.painted.png here]",
        rich_help_panel=OUTPUT,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="W[xH]",
        help="Size of the painting in pixels.  \\[default: the size of the picture]",
        rich_help_panel=LOOK,
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(metavar="X", help="Instead of --size: factor on the size of the picture.", rich_help_panel=LOOK),
]
Animate = Annotated[
    bool, typer.Option("--animate", metavar="", help="Make .webp a time-lapse.", rich_help_panel=TIME_LAPSE)
]
DEFAULT_FPS, DEFAULT_SECONDS = 25.0, 8.0
Fps = Annotated[
    float | None,
    typer.Option(
        metavar="X", min=1, max=120, help=f"Frames a second.  \\[default: {DEFAULT_FPS:g}]", rich_help_panel=TIME_LAPSE
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        min=0.1,
        max=3600,
        help=f"Duration in seconds; the last frame stays two more.  \\[default: {DEFAULT_SECONDS:g}]",
        rich_help_panel=TIME_LAPSE,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", metavar="", help="Overwrite existing files.", rich_help_panel=OUTPUT)
]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=MACHINE)]
Threads = Annotated[
    int, typer.Option(metavar="N", min=0, max=256, help="CPU threads; 0 = all cores.", rich_help_panel=MACHINE)
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]


def show_table(rows: Mapping[str, object], as_json: bool = False) -> None:
    """Print names and values, in two columns or as JSON."""
    if as_json:
        print_stdout(json.dumps(rows, indent=2))
        return
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        print_stdout(f"{name:<{width}}  {value}")


def timelapse_options(
    animate: bool, fps: float | None, seconds: float | None, suffixes: Collection[str]
) -> tuple[float, float]:
    """Frames a second and duration in seconds of time-lapses.

    Raises:
        ParamsError: an option of time-lapses is given, but no output, of these suffixes, is one.
    """
    from lpaint.painting.io.outputs import Saving

    if not any(Saving(animate).is_timelapse(suffix) for suffix in suffixes):
        for name, given in (("--animate", animate), ("--fps", fps is not None), ("--seconds", seconds is not None)):
            if given:
                kinds = ".webp" if animate else ".mp4, .gif, or .webp with --animate"
                raise ParamsError(f"{name} is for time-lapses, and no output is one; write {kinds}, or leave it out")
    return fps or DEFAULT_FPS, seconds or DEFAULT_SECONDS


def load_model(onnx: Path | None, device: Device, threads: int, announce: bool, warn: bool = True) -> "OnnxPainter":
    """Load the agent at ``onnx``, or the one that comes with lpaint.

    Args:
        announce: print on standard error which device ``auto`` chose.
        warn: print there why ``auto`` does not use a GPU.
    """
    from lpaint.painting.onnx_model import OnnxPainter, packaged_model

    model = OnnxPainter(onnx or packaged_model(), device.value, threads)
    if warn and model.gpu_problem:
        print_stderr(f"warning: painting on the CPU: {model.gpu_problem}")
    elif announce and device is Device.auto:
        print_stderr(f"painting on the {'GPU (CUDA)' if model.device == 'cuda' else 'CPU'}")
    return model


# Width, height and scale as requested; None = not given.
RequestedSize = tuple[int | None, int | None, float | None]


def parse_size(size: str | None, scale: float | None) -> RequestedSize:
    """Parse --size and --scale."""
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


def output_size(requested: RequestedSize, height: int, width: int) -> tuple[int, int]:
    """Height and width of the painting of a picture of ``height`` x ``width``."""
    wide, tall, scale = requested
    if scale is not None:
        wide, tall = max(1, round(width * scale)), max(1, round(height * scale))
    if wide is None:
        return height, width
    tall = tall if tall is not None else max(1, round(height * wide / width))
    if tall * wide > _MOST_PIXELS:
        raise ParamsError(f"a painting of {wide} x {tall} pixels is too large; the most is {_MOST_PIXELS:,} pixels")
    return tall, wide
