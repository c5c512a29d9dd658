"""Writing a painting to a file; the suffix selects the format."""

import errno
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.engine.resample import resize
from lpaint.painting.io.formats import ANIMATED, WRITABLE, check_size
from lpaint.painting.io.image import STDIO, canvas_to_pixels, write_pixels
from lpaint.painting.io.pixelart import check_cells, pixel_art
from lpaint.painting.io.strokefile import write_strokes
from lpaint.painting.io.svg import write_svg
from lpaint.painting.io.timelapse import TIMELAPSES, check_timelapse, write_timelapse
from lpaint.painting.onnx_model import OnnxPainter
from lpaint.painting.picture import Painting

VECTORS, STROKES = ".svg", ".json"


@dataclass(frozen=True)
class PixelArt:
    """Settings of pixel art: cells across, colours [K, 3] uint8 or how many to find, and whether to dither."""

    cells: int
    palette: np.ndarray | int
    dither: bool


@dataclass(frozen=True)
class Saving:
    """How paintings are written.

    Attributes:
        animate: WebP is a time-lapse, as GIF and MP4 always are.
        fps, seconds: frame rate and length of time-lapses.
        cells: settings of pixel art; None = write the painting itself.
        keep_alpha: PNG and WebP get the transparency of their picture.
    """

    animate: bool = False
    fps: float = 25.0
    seconds: float = 8.0
    cells: PixelArt | None = None
    keep_alpha: bool = False

    def is_timelapse(self, suffix: str) -> bool:
        """Whether a file with this suffix is a time-lapse."""
        return suffix in TIMELAPSES and (self.animate or suffix != ANIMATED)

    def keeps_alpha(self, suffix: str) -> bool:
        """Whether a file with this suffix gets the transparency of its picture."""
        return self.keep_alpha and suffix in WRITABLE and WRITABLE[suffix].alpha and not self.is_timelapse(suffix)


def check_output(path: Path, saving: Saving) -> None:
    """``check_kind`` and ``check_place``, before any work is done."""
    check_kind(path, saving)
    check_place(path)


def check_kind(path: Path, saving: Saving, suffix: str = "") -> None:
    """Check that an output's format can be written with these settings, before any work is done.

    Args:
        path: the output.
        saving: how paintings are written.
        suffix: selects the format if ``path`` is standard output.

    Raises:
        ParamsError: the suffix is unknown, or its format does not suit ``saving``.
        ImageError: a time-lapse cannot be encoded with the installed packages.
    """
    suffix = suffix or path.suffix.lower()
    if suffix not in WRITABLE:
        raise ParamsError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {', '.join(WRITABLE)}")
    if saving.cells is not None and suffix != ".png":
        raise ParamsError("--pixel-art: only PNG keeps its colours exact; name an output that ends in .png")
    if saving.is_timelapse(suffix):
        check_timelapse(path.with_suffix(suffix), saving.fps, saving.seconds)


def check_place(path: Path) -> None:
    """Check that a file can be written at this path, before any work is done.

    Raises:
        ImageError: the folder does not exist, the name is too long, or the path is a folder.
    """
    try:
        if path.is_dir():
            raise ImageError(f"{path}: is a folder; name a file")
        if not path.parent.is_dir():
            raise ImageError(f"{path}: the folder {path.parent} does not exist; make it first")
        most = os.pathconf(path.parent, "PC_NAME_MAX")
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise ImageError(f"{path}: cannot be written ({error.strerror}); choose another place by -o") from None
        most = 255
    length = len(os.fsencode(path.name))
    if length > most:
        raise ImageError(f"{path}: the name has {length} bytes, and {most} are the most; name a shorter one by -o")


def check_fit(path: Path, saving: Saving, height: int, width: int, suffix: str = "") -> None:
    """Check that an output can hold a painting of this size in pixels, before it is painted.

    Raises:
        ImageError: the format does not allow so many pixels a side.
        ParamsError: pixel art has more cells than pixels.
    """
    suffix = suffix or path.suffix.lower()
    if not saving.is_timelapse(suffix):
        check_size("standard output" if path == STDIO else str(path), suffix, height, width)
    if saving.cells is not None:
        check_cells(saving.cells.cells, height, width)


def save(path: Path, model: OnnxPainter, painting: Painting, saving: Saving, alpha: np.ndarray | None = None) -> None:
    """Write a painting to ``path``, whole or not at all; ``alpha`` [H, W] in [0, 1] is that of its picture.

    Raises:
        ImageError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == STROKES:
        write_strokes(path, model.family, painting.strokes, painting.height, painting.width)
    elif suffix == VECTORS:
        write_svg(path, model, painting.strokes, painting.height, painting.width)
    elif saving.is_timelapse(suffix):
        write_timelapse(path, model, painting.strokes, painting.height, painting.width, saving.fps, saving.seconds)
    else:
        canvas = painting.canvas(model)
        if saving.cells is not None:
            cells = saving.cells
            pixels = pixel_art(canvas, cells.cells, cells.palette, painting.height, painting.width, cells.dither)
        elif alpha is not None and saving.keeps_alpha(suffix):
            pixels = canvas_to_pixels(canvas, np.clip(resize(alpha[None], painting.height, painting.width)[0], 0, 1))
        else:
            pixels = canvas_to_pixels(canvas)
        write_pixels(path, pixels)


def save_to_stdout(
    suffix: str, model: OnnxPainter, painting: Painting, saving: Saving, alpha: np.ndarray | None = None
) -> None:
    """``save`` to standard output; on failure nothing is written.

    Raises:
        ImageError: the painting cannot be written.
    """
    if sys.stdout is None:
        raise ImageError("standard output is closed; name a file by -o")
    try:
        with TemporaryDirectory(prefix="lpaint-") as folder:
            file = Path(folder) / f"painting{suffix}"
            save(file, model, painting, saving, alpha)
            with file.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    except OSError as error:
        raise ImageError(f"standard output: cannot be written ({error.strerror or error})") from None
