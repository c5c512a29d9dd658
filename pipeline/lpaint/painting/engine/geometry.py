"""Boxes of pixels, the tiles of a picture, and pixels in the coordinates of a frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lpaint.painting.engine.types import COLOUR, PaintingModel

# Opacity maps drawn at once hold at most this many pixels: they stay in cache, and memory stays bounded.
MAX_PIXELS = 1 << 18


@dataclass(frozen=True)
class Box:
    """A box of whole pixels: first row, first column, height, width."""

    top: int
    left: int
    height: int
    width: int

    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def widened(self, overhang: float, height: int, width: int) -> "Box":
        """The box grown on every side by a share ``overhang`` of its own, moved and cut to a height x width raster."""
        tall = min(height, self.height + 2 * int(np.ceil(self.height * overhang)))
        wide = min(width, self.width + 2 * int(np.ceil(self.width * overhang)))
        top = min(max(0, self.top - (tall - self.height) // 2), height - tall)
        left = min(max(0, self.left - (wide - self.width) // 2), width - wide)
        return Box(top, left, tall, wide)


def half_overlapping_tiles(scales: Sequence[int], height: int, width: int) -> list[Box]:
    """Tiles of every scale d, half a tile apart; each has a d-th of the picture's sides."""
    boxes = []
    for scale in scales:
        tall, wide = max(1, round(height / scale)), max(1, round(width / scale))
        for i in range(2 * scale - 1):
            for j in range(2 * scale - 1):
                top = min(round(i * height / (2 * scale)), height - tall)
                left = min(round(j * width / (2 * scale)), width - wide)
                boxes.append(Box(top, left, tall, wide))
    return boxes


def even_grid(divide: int, height: int, width: int) -> list[Box]:
    """Even grid of divide x divide boxes that cover every pixel once."""
    rows = np.linspace(0, height, divide + 1).round().astype(int)
    columns = np.linspace(0, width, divide + 1).round().astype(int)
    return [
        Box(top, left, max(1, bottom - top), max(1, right - left))
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def pixel_coordinates(
    frames: np.ndarray, windows: Sequence[Box], stride: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels in the coordinates of their frames, where a frame is the unit square.

    Args:
        frames: [N, 4], top, left, height and width in pixels.
        windows: N boxes of one size, in pixels of the strided picture.
        stride: every how many-th pixel the strided picture keeps.

    Returns:
        Centres of rows [N, h] and of columns [N, w], and the pixel size [N, 2].
    """
    rows = np.array([np.arange(w.top, w.top + w.height) for w in windows]) * stride + 0.5
    columns = np.array([np.arange(w.left, w.left + w.width) for w in windows]) * stride + 0.5
    rows = (rows - frames[:, :1]) / frames[:, 2:3]
    columns = (columns - frames[:, 1:2]) / frames[:, 3:4]
    return rows.astype(np.float32), columns.astype(np.float32), (stride / frames[:, 2:]).astype(np.float32)


def paint_windows(model: PaintingModel, values: np.ndarray, frames: np.ndarray, height: int, width: int) -> list[Box]:
    """Windows that hold all paint of strokes [N, P] in ``frames`` [N, 4] (pixels), cut to a height x width raster."""
    if not len(values):
        return []
    corner, side = np.tile(frames[:, :2], 2), np.tile(frames[:, 2:], 2)
    bounds = corner + side * model.bounds(values[:, :-COLOUR])
    # A pixel more on each side for the soft edge.
    low = np.clip(np.floor(bounds[:, :2]) - 1, 0, [height, width]).astype(int)
    high = np.clip(np.ceil(bounds[:, 2:]) + 1, low, [height, width]).astype(int)
    return [Box(*map(int, (*start, *(stop - start)))) for start, stop in zip(low, high, strict=True)]


def bands(window: Box, pixels: int) -> Iterator[Box]:
    """A window in horizontal bands of at most ``pixels`` pixels; none of an empty window."""
    if window.width:
        tall = max(1, pixels // window.width)
        for top in range(0, window.height, tall):
            yield Box(window.top + top, window.left, min(tall, window.height - top), window.width)


def corner_and_sides(box: Box) -> np.ndarray:
    """[4]: top, left, height, width."""
    return np.array([box.top, box.left, box.height, box.width], np.float64)
