"""A painting to a file of any kind, chosen by its suffix."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lpaint.errors import ImageError, ParamsError
from lpaint.painting.film import FILMS, write_film
from lpaint.painting.image import to_pixels, write_pixels
from lpaint.painting.model import OnnxPainter
from lpaint.painting.picture import Painted
from lpaint.painting.pixelart import pixel_art
from lpaint.painting.resample import resize
from lpaint.painting.strokefile import write_strokes
from lpaint.painting.svg import write_svg

STILLS = (".png", ".jpg", ".jpeg", ".webp")
VECTORS, STROKES = ".svg", ".json"
WRITABLE = (*STILLS, ".gif", ".mp4", VECTORS, STROKES)
_WITH_ALPHA = (".png", ".webp")


@dataclass(frozen=True)
class PixelArt:
    """Cells across, colours [K, 3] or how many, and whether to dither."""

    cells: int
    palette: np.ndarray | int
    dither: bool


@dataclass(frozen=True)
class Saving:
    """How paintings are written.

    ``animate``: WebP becomes a time-lapse as GIF and MP4 are; ``fps`` and ``seconds`` are those of time-lapses;
    ``cells``: turn stills into pixel art; ``keep_alpha``: PNG and WebP are as transparent as their picture was.
    """

    animate: bool = False
    fps: float = 25.0
    seconds: float = 8.0
    cells: PixelArt | None = None
    keep_alpha: bool = False

    def is_film(self, suffix: str) -> bool:
        """Whether a suffix means a time-lapse."""
        return suffix in FILMS and (self.animate or suffix != ".webp")


def check_output(path: Path, saving: Saving) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises:
        ParamsError: unknown suffix, or one that cannot hold what was asked for.
        ImageError: the folder does not exist.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise ParamsError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use {', '.join(WRITABLE)}")
    if saving.cells is not None and suffix != ".png":
        raise ParamsError("--pixel-art: only PNG keeps its colours exact; name an output that ends in .png")
    if not path.parent.is_dir():
        raise ImageError(f"{path}: the folder {path.parent} does not exist; make it first")


def save(path: Path, model: OnnxPainter, painted: Painted, saving: Saving, alpha: np.ndarray | None = None) -> None:
    """Write a painting to ``path``, whole or not at all; ``alpha`` [H, W] is its picture's.

    Raises:
        ImageError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == STROKES:
        write_strokes(path, model.family, painted.strokes, painted.height, painted.width)
    elif suffix == VECTORS:
        write_svg(path, model, painted.strokes, painted.height, painted.width)
    elif saving.is_film(suffix):
        write_film(path, model, painted.strokes, painted.height, painted.width, saving.fps, saving.seconds)
    else:
        canvas = painted.canvas(model)
        if saving.cells is not None:
            cells = saving.cells
            pixels = pixel_art(canvas, cells.cells, cells.palette, painted.height, painted.width, cells.dither)
        elif saving.keep_alpha and alpha is not None and suffix in _WITH_ALPHA:
            pixels = to_pixels(canvas, np.clip(resize(alpha[None], painted.height, painted.width)[0], 0, 1))
        else:
            pixels = to_pixels(canvas)
        write_pixels(path, pixels)


def save_to_stdout(
    suffix: str, model: OnnxPainter, painted: Painted, saving: Saving, alpha: np.ndarray | None = None
) -> None:
    """``save`` to standard output; nothing is put out if it fails."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"painting{suffix}"
        save(file, model, painted, saving, alpha)
        with file.open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()
