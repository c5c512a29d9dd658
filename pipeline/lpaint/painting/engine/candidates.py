"""The pool of candidate strokes: proposed by the model, with their expected gains, not yet painted.

The model proposes a bundle of strokes at many tiles of a picture. The pool keeps each stroke with its gain, so the
best of all of them can be painted next. The model proposes again only where the canvas has changed since.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lpaint.painting.engine.colour import gains
from lpaint.painting.engine.geometry import Box, pixel_coordinates

# Expected gain of a tile as a share of its error. Before the first proposal it is high, so that every tile is tried.
# It never falls below the least, so that no tile is given up.
_INITIAL_EXPECTED_GAIN, _MIN_EXPECTED_GAIN = 1.0, 1e-3
# A tile's proposals are stale once this share of its pixels is painted on.
_STALE_COVERAGE = 0.002


@dataclass(frozen=True)
class Raster:
    """The pixels on which strokes are compared: every ``stride``-th pixel of a height x width picture."""

    height: int
    width: int
    stride: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the raster."""
        return -(-self.height // self.stride), -(-self.width // self.stride)

    def view(self, images: np.ndarray) -> np.ndarray:
        """A view of images [..., height, width] on the raster."""
        return images[..., :: self.stride, :: self.stride]

    def window(self, box: Box, overhang: float) -> Box:
        """Where paint from ``box`` may fall, in rows and columns of the raster; of one size for boxes of one size."""
        rows, columns = self.shape
        tall, wide = (min(most, -(-side // self.stride)) for most, side in ((rows, box.height), (columns, box.width)))
        inner = Box(min(box.top // self.stride, rows - tall), min(box.left // self.stride, columns - wide), tall, wide)
        return inner.widened(overhang, rows, columns)

    def coordinates(self, frames: np.ndarray, windows: Sequence[Box]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``geometry.pixel_coordinates`` of windows on the raster."""
        return pixel_coordinates(frames, windows, self.stride)


class CandidatePool:
    """The candidate strokes of one picture, by tile.

    Args:
        tiles: N tiles of the picture, in pixels.
        windows: N boxes on the raster that hold the paint of the tiles' strokes.
        bundle: strokes that the model proposes at a tile.
        max_steps: steps of the model's episode. On a picture of one tile, a step whose strokes do not help is followed
            by the next step, up to this many.
        fits_colours: strokes take the least-squares colours for their shapes.

    Attributes:
        steps: [N], the step of the episode that each tile has reached; a fraction where part of a bundle was painted.
        expected_gain: [N], the share of a tile's squared error that its next stroke is expected to remove.
        stale: [N], whether the canvas changed since the model last proposed strokes there.
        gains: [N, bundle], the decrease in squared error by each candidate; 0 for strokes that were painted.
    """

    def __init__(
        self, tiles: Sequence[Box], windows: Sequence[Box], bundle: int, max_steps: int, fits_colours: bool
    ) -> None:
        self.tiles, self.windows, self.max_steps, self.fits_colours = tiles, windows, max_steps, fits_colours
        count = len(tiles)
        self.steps = np.zeros(count)
        self.expected_gain = np.full(count, _INITIAL_EXPECTED_GAIN)
        self.stale = np.ones(count, bool)
        self.gains = np.zeros((count, bundle))
        self._alpha: list[np.ndarray | None] = [None] * count
        self._values: list[np.ndarray | None] = [None] * count
        self._corners = np.array([[w.top, w.left, w.top + w.height, w.left + w.width] for w in windows])

    def next_tiles(self, error: np.ndarray, count: int) -> np.ndarray:
        """At most ``count`` stale tiles for which the model should propose strokes next.

        Those with the largest product of squared error and ``expected_gain``. ``error`` [rows, columns] is the squared
        error on the raster.
        """
        priority = np.where(self.stale, _box_sums(error, self._corners) * self.expected_gain, 0.0)
        order = np.argsort(-priority, kind="stable")[:count]
        return order[priority[order] > 0]

    def add(self, tile: int, values: np.ndarray, alpha: np.ndarray, canvas: np.ndarray, target: np.ndarray) -> None:
        """Replace a tile's candidates: strokes [K, P] and their opacity [K, h, w] on the tile's window."""
        self._values[tile], self._alpha[tile], self.stale[tile] = values, alpha, False
        window = self.windows[tile].slices()
        self.gains[tile] = gains(values, alpha, canvas[:, *window], target[:, *window], self.fits_colours)
        error = np.square(canvas[:, *window] - target[:, *window]).sum() + 1e-12
        if self.gains[tile].max() <= 0:
            self.steps[tile] += 1
            self.stale[tile] = len(self.tiles) == 1 and self.steps[tile] < self.max_steps
        self.expected_gain[tile] = max(self.gains[tile].max() / error, _MIN_EXPECTED_GAIN)

    def best(self, canvas: np.ndarray, target: np.ndarray) -> tuple[int, int, float]:
        """Tile, index in its bundle, and gain of the candidate that lowers the squared error on the raster most.

        A lazy greedy search (Minoux 1978): the largest stored gain is computed again on the current canvas, until the
        largest one stays the largest. The search is exact where gains only fall while other strokes are painted. Here
        most do, but a gain can rise: a dark stroke gains more once a light one lies beneath it. A stored gain that is
        too small is corrected only when it is the largest or when the model proposes for its tile again. So the result
        is the best of the candidates that were computed again, with its gain on the current canvas; 0 where none of
        them helps.
        """
        while True:
            flat = int(self.gains.argmax())
            tile, k = divmod(flat, self.gains.shape[1])
            if self.gains[tile, k] <= 0:
                return tile, k, 0.0
            values, alpha = self._values[tile], self._alpha[tile]
            assert values is not None and alpha is not None
            window, part = self.windows[tile].slices(), slice(k, k + 1)
            (gain,) = gains(values[part], alpha[part], canvas[:, *window], target[:, *window], self.fits_colours)
            self.gains[tile, k] = gain
            if gain >= self.gains.max():
                return tile, k, float(gain)

    def pop(self, tile: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Remove a candidate: its numbers [P], copied, and its opacity [h, w] on the tile's window."""
        values, alpha = self._values[tile], self._alpha[tile]
        assert values is not None and alpha is not None
        self.gains[tile, k] = 0.0
        return values[k].copy(), alpha[k]

    def mark_painted(self, tile: int, k: int) -> None:
        """Mark the tiles that the stroke touches as stale, after it was painted."""
        alpha = self._alpha[tile]
        assert alpha is not None
        self.steps[tile] += 1 / len(alpha)
        window = self.windows[tile]
        low, high = np.array([window.top, window.left] * 2), np.array([window.height, window.width] * 2)
        paint = _box_sums(alpha[k], np.clip(self._corners - low, 0, high))
        area = (self._corners[:, 2] - self._corners[:, 0]) * (self._corners[:, 3] - self._corners[:, 1])
        self.stale |= paint > _STALE_COVERAGE * area


def _box_sums(image: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Sums of an image [h, w] over N boxes, ``corners`` [N, 4]: top, left, and below and right of the last pixel."""
    integral = np.pad(image.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    top, left, bottom, right = corners.T
    sums: np.ndarray = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return sums
