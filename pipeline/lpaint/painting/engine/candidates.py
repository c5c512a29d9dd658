"""Strokes proposed but not yet painted: what a painter chooses from.

The model is asked for a bundle at many tiles of a picture. Each of its strokes is kept with what it would gain, so that
the best of all of them can be painted next, and the model is asked again only where the canvas has changed since.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpaint.painting.engine.colour import COLOUR, Moments
from lpaint.painting.engine.geometry import Box, pixel_coordinates

# What share of a tile's error a stroke is expected to mend where the model was never asked, and at the least: at first
# every tile is worth a question, later those that answered well.
_HOPE, _LEAST_HOPE = 1.0, 1e-3
# Paint on a tile, as a share of its pixels, from which on what was proposed there is out of date.
_CHANGED = 0.002


@dataclass(frozen=True)
class Raster:
    """Every ``thin``-th pixel of a height x width picture: what strokes are judged on."""

    height: int
    width: int
    thin: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that are looked at."""
        return -(-self.height // self.thin), -(-self.width // self.thin)

    def of(self, images: np.ndarray) -> np.ndarray:
        """A view of images [..., height, width]."""
        return images[..., :: self.thin, :: self.thin]

    def window(self, box: Box, reach: float) -> Box:
        """Where paint from ``box`` may fall, in rows and columns of the raster; of one size for boxes of one size."""
        rows, columns = self.shape
        tall, wide = (min(most, -(-side // self.thin)) for most, side in ((rows, box.height), (columns, box.width)))
        inner = Box(min(box.top // self.thin, rows - tall), min(box.left // self.thin, columns - wide), tall, wide)
        return inner.widened(reach, rows, columns)

    def coordinates(self, frames: np.ndarray, windows: Sequence[Box]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``windows`` in the coordinates of ``frames`` [n, 4] (in pixels), as ``rasterise`` wants them."""
        return pixel_coordinates(frames, windows, self.thin)


class Proposals:
    """The strokes proposed for one picture, by tile.

    Args:
        tiles: the picture's tiles, in pixels.
        windows: what their paint may touch, on the raster.
        bundle: strokes that the model proposes at a tile.
        max_steps: bundles that the model paints at a tile by itself; on a picture that is not cut into tiles, what
            does not help at one step may at the next.
        fitted: whether colours are fitted to shapes.
    """

    def __init__(self, tiles: Sequence[Box], windows: Sequence[Box], bundle: int, max_steps: int, fitted: bool) -> None:
        self.tiles, self.windows, self.max_steps, self.fitted = tiles, windows, max_steps, fitted
        count = len(tiles)
        self.visits = np.zeros(count)
        self.promise = np.full(count, _HOPE)
        self.dirty = np.ones(count, bool)
        self.gains = np.zeros((count, bundle))
        self._alpha: list[np.ndarray | None] = [None] * count
        self._values: list[np.ndarray | None] = [None] * count
        self._corners = np.array([[w.top, w.left, w.top + w.height, w.left + w.width] for w in windows])

    def next_tiles(self, error: np.ndarray, count: int) -> np.ndarray:
        """At most ``count`` tiles to ask the model about, of those out of date.

        The most promising ones: what is missing there, times the share of it that a stroke mended last time.
        ``error`` [rows, columns] is the squared error on the raster.
        """
        missing = _box_sums(error, self._corners)
        worth = np.where(self.dirty, missing * self.promise, 0.0)
        order = np.argsort(-worth, kind="stable")[:count]
        return order[worth[order] > 0]

    def put(self, tile: int, values: np.ndarray, alpha: np.ndarray, canvas: np.ndarray, target: np.ndarray) -> None:
        """Take what the model proposes at a tile: strokes [K, P] and their opacity [K, h, w] on the tile's window."""
        self._values[tile], self._alpha[tile], self.dirty[tile] = values, alpha, False
        window = self.windows[tile].slices()
        self.gains[tile] = self._gain(values, alpha, canvas[:, *window], target[:, *window])
        missing = np.square(canvas[:, *window] - target[:, *window]).sum() + 1e-12
        if self.gains[tile].max() <= 0:
            self.visits[tile] += 1
            # Where there is nowhere else to go.
            self.dirty[tile] = len(self.tiles) == 1 and self.visits[tile] < self.max_steps
        self.promise[tile] = max(self.gains[tile].max() / missing, _LEAST_HOPE)

    def best(self, canvas: np.ndarray, target: np.ndarray) -> tuple[int, int, float]:
        """Tile, place in its bundle, and gain of the stroke that lowers the squared error on the raster most.

        Gains are computed again one by one, the largest stored one first, until the first stays first: a lazy greedy
        search (Minoux 1978). That search is exact where gains only fall while others paint. Here most do, but a gain
        can rise, too: a dark stroke gains more once a light one lies beneath it. A stored gain that is now too small
        is not seen until its turn comes or its tile is asked about again, so the stroke returned is the best of those
        that were looked at, with its gain on the canvas as it is. The gain is 0 where nothing that was looked at helps.
        """
        while True:
            flat = int(self.gains.argmax())
            tile, k = divmod(flat, self.gains.shape[1])
            if self.gains[tile, k] <= 0:
                return tile, k, 0.0
            values, alpha = self._values[tile], self._alpha[tile]
            assert values is not None and alpha is not None
            window = self.windows[tile].slices()
            part = slice(k, k + 1)
            gain = float(self._gain(values[part], alpha[part], canvas[:, *window], target[:, *window])[0])
            self.gains[tile, k] = gain
            if gain >= self.gains.max():
                return tile, k, gain

    def alpha(self, tile: int, k: int) -> np.ndarray:
        """The opacity [h, w] of a proposed stroke on its tile's window."""
        opacity = self._alpha[tile]
        assert opacity is not None
        return opacity[k]

    def take(self, tile: int, k: int) -> np.ndarray:
        """The stroke's numbers [P]; it is no longer proposed."""
        values = self._values[tile]
        assert values is not None
        self.gains[tile, k] = 0.0
        return values[k].copy()

    def painted(self, tile: int, k: int) -> None:
        """The stroke is on the canvas: tiles that it touches are out of date."""
        alpha = self._alpha[tile]
        assert alpha is not None
        self.visits[tile] += 1 / len(alpha)
        window = self.windows[tile]
        low, high = np.array([window.top, window.left] * 2), np.array([window.height, window.width] * 2)
        laid = _box_sums(alpha[k], np.clip(self._corners - low, 0, high))
        area = (self._corners[:, 2] - self._corners[:, 0]) * (self._corners[:, 3] - self._corners[:, 1])
        self.dirty |= laid > _CHANGED * area

    def _gain(self, values: np.ndarray, alpha: np.ndarray, canvas: np.ndarray, target: np.ndarray) -> np.ndarray:
        return gains(values, alpha, canvas, target, self.fitted)


def _box_sums(image: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Sums of an image [h, w] over N boxes, ``corners`` [N, 4]: top, left, and below and right of the last pixel."""
    integral = np.pad(image.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    top, left, bottom, right = corners.T
    sums: np.ndarray = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return sums


def gains(values: np.ndarray, alpha: np.ndarray, canvas: np.ndarray, target: np.ndarray, fitted: bool) -> np.ndarray:
    """How much each of K strokes [K, P] alone would lower the squared error: [K], from opacity [K, h, w] on one window.

    ``canvas`` and ``target`` [3, h, w]; ``fitted``: the strokes take the best colours for their shapes.
    """
    moments, colour = Moments.of(canvas, alpha, target), values[:, -COLOUR:]
    return moments.gains(moments.best_colour(colour) if fitted else colour)
