"""``lpaint paint`` and ``lpaint info``: what needs no more than the base install. torch is never imported here."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpaint.errors import ExitCode, LpaintError, ParamsError

if TYPE_CHECKING:
    import numpy as np

    from lpaint.painting.model import OnnxPainter
    from lpaint.painting.picture import Plan

DEFAULT_STROKES = 500
DEFAULT_STEPS = 5
DEFAULT_EFFORT = 8


class Device(StrEnum):
    """Where ONNX Runtime computes."""

    auto = "auto"
    cuda = "cuda"
    cpu = "cpu"


def paint(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of any size and mode.")],
    onnx: Annotated[Path, typer.Option(help="The trained agent.", metavar="FILE")] = Path("exports/actor.onnx"),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Where to write: .png, .jpg, .webp or .svg.  [default: <stem>.painted.png here]"
        ),
    ] = None,
    out_dir: Annotated[Path | None, typer.Option(help="Write each painting to DIR/<stem>.png.", metavar="DIR")] = None,
    strokes: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help=f"Strokes, where the error is largest.  [default: {DEFAULT_STROKES}]"),
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
    size: Annotated[
        int | None,
        typer.Option(min=16, max=16384, help="Longer side of the painting, pixels.  [default: the picture's own size]"),
    ] = None,
    pixel_art: Annotated[
        int | None, typer.Option(min=2, max=4096, help="Turn the painting into pixel art of so many cells across.")
    ] = None,
    palette: Annotated[
        str, typer.Option(metavar="K|FILE", help="With --pixel-art: how many colours, or a file of them (.hex, .gpl).")
    ] = "16",
    dither: Annotated[bool, typer.Option("--dither", help="With --pixel-art: mix colours by patterns.")] = False,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    threads: Annotated[int, typer.Option(min=0, max=256, help="CPU threads; 0 = all cores.")] = 0,
) -> None:
    """Paint pictures with an exported agent.

    Each painting is as large as its picture, or as --size says; strokes are not cut at tiles' edges. A picture that
    cannot be read is reported and skipped, and the exit code is then 1.
    """
    # numpy multiplies small matrices here, between ONNX Runtime's own threads; a second pool only gets in their way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from lpaint.painting.picture import Plan

    grid = divide is not None or steps is not None
    for name, value in (("--strokes", strokes), ("--effort", effort)):
        if grid and value is not None:
            raise ParamsError(f"{name} spends strokes by error, --divide and --steps evenly; give the one or the other")
    plan = Plan(
        strokes or DEFAULT_STROKES, (divide or 1) if grid else 0, steps or DEFAULT_STEPS, effort or DEFAULT_EFFORT
    )
    targets = _outputs(images, output, out_dir)
    cells = None if pixel_art is None else PixelArt(pixel_art, _palette(palette), dither)
    if cells is not None and any(target.suffix.lower() != ".png" for target in targets):
        raise ParamsError("--pixel-art: only PNG keeps its colours exact; name an output that ends in .png")

    from lpaint.painting.model import OnnxPainter

    model = OnnxPainter(onnx, device.value, threads)
    if device is Device.auto:
        typer.echo(f"painting on the {'GPU (CUDA)' if model.device == 'cuda' else 'CPU'}", err=True)
    failed = 0
    for image, target in zip(images, targets, strict=True):
        try:
            count = _paint_one(model, image, target, plan, size, cells)
        except LpaintError as error:
            typer.echo(f"error: {error}", err=True)
            failed += 1
        else:
            typer.echo(f"{target}: {count} strokes")
    if failed:
        raise typer.Exit(ExitCode.SOME_FAILED)


def info(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An actor.onnx.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what an exported agent is: its strokes, its training, its tensors."""
    from lpaint.painting.model import describe

    facts = describe(model)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {value}")


def _outputs(images: list[Path], output: Path | None, out_dir: Path | None) -> list[Path]:
    """Where each picture's painting goes, checked before any work is done."""
    from lpaint.painting.image import check_writable

    if output is not None and out_dir is not None:
        raise ParamsError("-o names one file and --out-dir a folder; give the one or the other")
    if output is not None and len(images) > 1:
        raise ParamsError(f"-o names one file, but there are {len(images)} pictures; use --out-dir")
    if out_dir is not None:
        try:
            out_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ParamsError(
                f"{out_dir}: cannot be made a folder ({error.strerror}); name another --out-dir"
            ) from None
        targets = [out_dir / f"{image.stem}.png" for image in images]
    else:
        targets = [output or Path(f"{image.stem}.painted.png") for image in images]
    seen: dict[Path, Path] = {}
    for image, target in zip(images, targets, strict=True):
        check_writable(target)
        other = seen.setdefault(target, image)
        if other is not image:
            raise ParamsError(f"{other} and {image} would both be painted to {target}; rename one of them")
        if target.exists() and image.exists() and target.samefile(image):
            raise ParamsError(f"{image}: the painting would overwrite the picture; name another output")
    return targets


@dataclass(frozen=True)
class PixelArt:
    """What --pixel-art asks for: cells across, colours or how many, and whether to dither."""

    cells: int
    palette: "np.ndarray | int"
    dither: bool


def _palette(value: str) -> "np.ndarray | int":
    """A number of colours, or the colours of a file."""
    from lpaint.painting.pixelart import read_palette

    if not value.isdecimal():
        return read_palette(Path(value))
    if not 2 <= int(value) <= 256:
        raise ParamsError(f"--palette {value}: give 2 to 256 colours, or a file of them")
    return int(value)


def _paint_one(
    model: "OnnxPainter", image: Path, target: Path, plan: "Plan", size: int | None, cells: PixelArt | None
) -> int:
    """Paint one picture to ``target``; returns the number of strokes."""
    from lpaint.painting.image import VECTORS, read_image, write_image, write_pixels
    from lpaint.painting.picture import paint_picture
    from lpaint.painting.pixelart import pixel_art
    from lpaint.painting.svg import write_svg

    picture = read_image(image)
    with _Progress(image.name, plan.total(model)) as on_progress:
        canvas, strokes = paint_picture(model, picture, plan, size, on_progress)
    if target.suffix.lower() == VECTORS:
        write_svg(target, model, strokes, *canvas.shape[1:])
    elif cells is None:
        write_image(target, canvas)
    else:
        _, height, width = canvas.shape
        write_pixels(target, pixel_art(canvas, cells.cells, cells.palette, height, width, cells.dither))
    return len(strokes)


class _Progress:
    """A progress bar on stderr where that is a terminal, nothing elsewhere."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total = label, total

    def __enter__(self) -> Callable[[int], None] | None:
        self._bar = None
        if not sys.stderr.isatty():
            return None
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True)
        self._bar.start()
        task = self._bar.add_task(self._label, total=self._total)
        bar = self._bar
        return lambda done: bar.update(task, completed=done)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
