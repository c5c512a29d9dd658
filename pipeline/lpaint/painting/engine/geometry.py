"""Boxes of pixels, the tiles of a picture, and pixels in the coordinates of a frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Box:
    """A box of whole pixels: first row, first column, height, width."""

    top: int
    left: int
    height: int
    width: int

    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def widened(self, reach: float, height: int, width: int) -> "Box":
        """The box grown by ``reach`` of its sides, moved and cut to lie in a height x width raster."""
        tall = min(height, self.height + 2 * int(np.ceil(self.height * reach)))
        wide = min(width, self.width + 2 * int(np.ceil(self.width * reach)))
        top = min(max(0, self.top - (tall - self.height) // 2), height - tall)
        left = min(max(0, self.left - (wide - self.width) // 2), width - wide)
        return Box(top, left, tall, wide)


def half_overlapping_tiles(scales: Sequence[int], height: int, width: int) -> list[Box]:
    """Tiles of every scale d, a d-th of the picture's sides each, half a tile apart."""
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
    frames: np.ndarray, windows: Sequence[Box], every: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel centres of ``windows`` in the coordinates of ``frames`` [n, 4] (in pixels), and the pixels' size.

    ``every``: n, where the windows are of a picture of which each n-th pixel was kept.
    """
    rows = np.array([np.arange(w.top, w.top + w.height) for w in windows]) * every + 0.5
    columns = np.array([np.arange(w.left, w.left + w.width) for w in windows]) * every + 0.5
    rows = (rows - frames[:, :1]) / frames[:, 2:3]
    columns = (columns - frames[:, 1:2]) / frames[:, 3:4]
    return rows.astype(np.float32), columns.astype(np.float32), (every / frames[:, 2:]).astype(np.float32)


def bands(window: Box, pixels: int) -> Iterator[Box]:
    """A window in horizontal bands of at most ``pixels`` pixels; none of an empty window."""
    if window.width:
        tall = max(1, pixels // window.width)
        for top in range(0, window.height, tall):
            yield Box(window.top + top, window.left, min(tall, window.height - top), window.width)


def corner_and_sides(box: Box) -> np.ndarray:
    """[4]: top, left, height, width."""
    return np.array([box.top, box.left, box.height, box.width], np.float64)
