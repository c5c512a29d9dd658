"""Turning pictures into strokes: the whole picture first, then tiles, with numpy and a painting model.

Pictures of any aspect are squashed to a unit square; a tile is a box of pixels in it. Every stroke is kept with its
*frame*, the box (top, left, height, width) in the unit square in which the model placed it, so that the same strokes
can be drawn at any size. Strokes are not cut at the edges of their tile.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lpaint.painting.fit import fit_colour
from lpaint.painting.geometry import (
    Box,
    bands,
    corner_and_sides,
    even_grid,
    half_overlapping_tiles,
    pixel_coordinates,
)
from lpaint.painting.resample import resize

_VISIT_DISCOUNT = 0.7
_REJECTED_VISITS = 6
_PATIENCE = 40
# A stroke ends with its colour; what comes before is its shape.
_COLOUR = 3
# Opacity maps drawn at once hold at most this many pixels: they stay in cache, and memory stays bounded.
_PIXELS_AT_ONCE = 1 << 18
# Tiles of a large picture are judged by every n-th pixel, of which this many remain on the longer side.
_JUDGED_SIDE = 256
# From a window of this many pixels on, drawing each stroke on its own bounds beats drawing a batch on equal windows.
_LARGE_WINDOW = 1 << 14


class PaintingModel(Protocol):
    """What the painter needs of a trained model; float32 arrays in and out.

    ``fitted``: a stroke takes the best colour for its shape instead of the model's own; ``start``: the bare canvas is
    ``black``, ``white`` or of the picture's ``mean`` colour; ``reach``: how far paint lies outside its frame, in sides.
    """

    canvas: int
    bundle: int
    max_steps: int
    zoom: tuple[int, ...]
    reach: float
    fitted: bool
    start: str

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Canvas and target [B, 3, S, S] in [0, 1], step fraction [B] -> strokes [B, bundle, parameters]."""
        ...

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pitch: np.ndarray) -> np.ndarray:
        """Shapes [N, parameters - 3], pixel centres [N, h] and [N, w] and pixel size [N, 2] -> opacity [N, h, w]."""
        ...

    def bounds(self, shape: np.ndarray) -> np.ndarray:
        """Shapes [N, parameters - 3] -> [N, 4]: top, left, bottom, right of all paint but a soft half pixel."""
        ...


@dataclass(frozen=True)
class Strokes:
    """Strokes in painting order.

    ``frames``: [N, 4], top, left, height and width in the unit square; ``values``: [N, P] in [0, 1]; ``ground``: red,
    green and blue of the bare canvas, in [0, 1].
    """

    frames: np.ndarray
    values: np.ndarray
    ground: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __len__(self) -> int:
        return len(self.frames)


@dataclass
class Painting:
    """What ``paint_by_error`` and ``paint_grid`` return for B pictures.

    ``snapshots``: stroke budget -> canvases [B, 3, H, W]; ``strokes``: one ``Strokes`` a picture.
    """

    snapshots: dict[int, np.ndarray]
    strokes: list[Strokes]


@dataclass
class _Easel:
    """Canvases in work and what is on them. ``ground`` [B, 3] is the bare canvases' colour."""

    target: np.ndarray
    canvas: np.ndarray
    ground: np.ndarray
    budgets: list[int]
    used: np.ndarray
    snapshots: dict[int, np.ndarray]
    parameters: int = _COLOUR
    frames: list[list[np.ndarray]] = field(default_factory=list)
    values: list[list[np.ndarray]] = field(default_factory=list)

    @classmethod
    def start(cls, model: PaintingModel, target: np.ndarray, budgets: Sequence[int]) -> "_Easel":
        count = len(target)
        ground = target.mean((2, 3)) if model.start == "mean" else np.full((count, 3), float(model.start == "white"))
        canvas = np.empty_like(target)
        canvas[:] = ground[:, :, None, None]
        snapshots = {budget: canvas.copy() for budget in budgets}
        frames: list[list[np.ndarray]] = [[] for _ in range(count)]
        values: list[list[np.ndarray]] = [[] for _ in range(count)]
        return cls(
            target, canvas, ground, sorted(budgets), np.zeros(count, int), snapshots, frames=frames, values=values
        )

    @property
    def full(self) -> np.ndarray:
        return self.used >= self.budgets[-1]

    def paint(self, model: PaintingModel, who: np.ndarray, boxes: list[Box], fraction: np.ndarray) -> np.ndarray:
        """Let the model paint one bundle in ``boxes[i]`` (all of one size) of picture ``who[i]``, each at most once.

        A stroke is kept only if it lowers the squared error; returns [len(who)] whether any was kept.
        """
        height, width = self.target.shape[2:]
        seen = [resize(_cut(image, who, boxes), model.canvas, model.canvas) for image in (self.canvas, self.target)]
        strokes = model.act(seen[0], seen[1], fraction.astype(np.float32))
        self.parameters = strokes.shape[2]
        first = boxes[0].widened(model.reach, height, width)
        if first.height * first.width >= _LARGE_WINDOW:
            places = zip(who, boxes, strokes, strict=True)
            return np.array([self._lay_each(model, b, box, values) for b, box, values in places])
        return self._lay_together(model, who, boxes, strokes)

    def _lay_each(self, model: PaintingModel, b: int, box: Box, strokes: np.ndarray) -> bool:
        """Lay a bundle [bundle, P] on picture ``b``, each stroke on its own bounds; whether any was kept."""
        height, width = self.target.shape[2:]
        kept_any = False
        windows = _bounding_windows(model, strokes, np.tile(corner_and_sides(box), (len(strokes), 1)), height, width)
        for values, window in zip(strokes, windows, strict=True):
            if self.used[b] >= self.budgets[-1] or not window.height * window.width:
                continue
            alpha = _rasterise(model, values[None, None], [box], [window])[0, 0]
            canvas, target = (image[b][:, *window.slices()] for image in (self.canvas, self.target))
            if model.fitted:
                values[-_COLOUR:] = fit_colour(canvas, alpha, values[-_COLOUR:], target)
            after = canvas + alpha * (values[-_COLOUR:, None, None] - canvas)
            if np.square(after - target).sum() < np.square(canvas - target).sum():
                canvas[:] = after
                self._record(b, box, values)
                kept_any = True
        return kept_any

    def _lay_together(self, model: PaintingModel, who: np.ndarray, boxes: list[Box], strokes: np.ndarray) -> np.ndarray:
        """Lay bundles [n, bundle, P] on pictures ``who``, on windows of one size; [n] whether any stroke was kept."""
        height, width = self.target.shape[2:]
        windows = [box.widened(model.reach, height, width) for box in boxes]
        alpha = _rasterise(model, strokes, boxes, windows)
        canvas, target = (_cut(image, who, windows) for image in (self.canvas, self.target))
        error = np.square(canvas - target).sum((1, 2, 3))
        kept_any = np.zeros(len(who), bool)
        for k in range(model.bundle):
            colour = strokes[:, k, -_COLOUR:]
            if model.fitted:
                colour[:] = fit_colour(canvas, alpha[:, k], colour, target)
            after = canvas + alpha[:, k, None] * (colour[:, :, None, None] - canvas)
            error_after = np.square(after - target).sum((1, 2, 3))
            keep = (error_after < error) & ~self.full[who]
            canvas = np.where(keep[:, None, None, None], after, canvas)
            error = np.where(keep, error_after, error)
            kept_any |= keep
            for i in np.flatnonzero(keep):
                self.canvas[who[i]][:, *windows[i].slices()] = canvas[i]
                self._record(who[i], boxes[i], strokes[i, k])
        return kept_any

    def _record(self, b: int, box: Box, values: np.ndarray) -> None:
        """Note a stroke that is on canvas ``b``, and the canvas itself where a budget is reached."""
        height, width = self.target.shape[2:]
        self.used[b] += 1
        self.frames[b].append(corner_and_sides(box) / [height, width, height, width])
        self.values[b].append(values)
        if self.used[b] in self.snapshots:
            self.snapshots[int(self.used[b])][b] = self.canvas[b]

    def finish(self) -> Painting:
        """The painting; budgets that a picture did not use up show its last canvas."""
        for budget, snapshot in self.snapshots.items():
            unfinished = self.used < budget
            snapshot[unfinished] = self.canvas[unfinished]
        width = self.parameters
        strokes = [
            Strokes(
                np.array(frames, np.float32).reshape(-1, 4),
                np.array(values, np.float32).reshape(-1, width),
                (float(red), float(green), float(blue)),
            )
            for frames, values, (red, green, blue) in zip(self.frames, self.values, self.ground, strict=True)
        ]
        return Painting(self.snapshots, strokes)


def paint_by_error(
    model: PaintingModel,
    target: np.ndarray,
    budgets: Sequence[int],
    on_progress: Callable[[int], None] | None = None,
) -> Painting:
    """Paint pictures within a budget of strokes, where the remaining error is largest.

    First ``model.max_steps`` steps on the whole picture; then, a bundle at a time, the tile with the largest remaining
    squared error, among overlapping tiles (half a tile apart) at every scale of the model's zoom and one finer. Each
    visit discounts a tile; a bundle of which nothing helped discounts it much. A model that never saw tiles
    (zoom [1]) goes on with the whole picture.

    Args:
        model: the trained painter.
        target: [B, 3, H, W] float32 in [0, 1].
        budgets: stroke counts at which to keep the canvases; the largest ends the painting.
        on_progress: called with the least number of strokes that any picture has.

    Returns:
        Snapshots at each budget (fewer strokes where nothing more helped) and the strokes.
    """
    height, width = target.shape[2:]
    easel = _Easel.start(model, target, budgets)
    everyone = np.arange(len(target))
    whole = Box(0, 0, height, width)
    for k in range(model.max_steps):
        who = everyone[~easel.full]
        if len(who):
            easel.paint(model, who, [whole] * len(who), np.full(len(who), k / model.max_steps))
    tiles, scale_of = half_overlapping_tiles(model.zoom, height, width)
    visits = np.full((len(target), len(tiles)), float(model.max_steps) if len(model.zoom) == 1 else 0.0)
    fruitless = np.zeros(len(target), int)
    while len(who := everyone[~easel.full & (fruitless < _PATIENCE)]):
        remaining = _remaining_error(easel, who, tiles)
        chosen = np.argmax(remaining * _VISIT_DISCOUNT ** visits[who], 1)
        for scale in np.unique(scale_of[chosen]):
            group = np.flatnonzero(scale_of[chosen] == scale)
            pictures, picks = who[group], chosen[group]
            step = np.minimum(model.max_steps - 1, visits[pictures, picks])
            kept = easel.paint(model, pictures, [tiles[t] for t in picks], step / model.max_steps)
            visits[pictures, picks] += np.where(kept, 1, _REJECTED_VISITS)
            fruitless[pictures] = np.where(kept, 0, fruitless[pictures] + 1)
        if on_progress is not None:
            on_progress(int(easel.used.min()))
    return easel.finish()


def paint_grid(
    model: PaintingModel,
    target: np.ndarray,
    divide: int,
    steps: int,
    on_progress: Callable[[int], None] | None = None,
) -> Painting:
    """Paint one picture evenly: ``steps`` steps on the whole, then ``steps`` steps on each tile of a grid.

    The published way (Huang et al. 2019, section 4.4), except that strokes are not cut at the tiles' edges, each step
    sees what its neighbours painted, and a stroke that would raise the error is left out.

    Args:
        model: the trained painter.
        target: [3, H, W] float32 in [0, 1].
        divide: tiles a side; 1 = the whole picture only.
        steps: bundles on the whole picture, and on each tile.
        on_progress: called with the number of strokes tried so far.
    """
    _, height, width = target.shape
    easel = _Easel.start(model, target[None], [steps * model.bundle * (1 + divide * divide)])
    who = np.zeros(1, int)
    grid = [Box(0, 0, height, width)], even_grid(divide, height, width)
    done = 0
    for boxes in grid if divide > 1 else grid[:1]:
        for k in range(steps):
            fraction = np.array([min(k, model.max_steps - 1) / model.max_steps])
            for box in boxes:
                easel.paint(model, who, [box], fraction)
                done += model.bundle
                if on_progress is not None:
                    on_progress(done)
    return easel.finish()


def draw_strokes(model: PaintingModel, strokes: Strokes, height: int, width: int) -> Iterator[np.ndarray]:
    """Draw strokes on a bare canvas of any size; yields the canvas [3, height, width] after each stroke.

    The array is the same one each time, so memory holds one canvas; copy it to keep it.
    """
    canvas = np.empty((3, height, width), np.float32)
    canvas[:] = np.array(strokes.ground)[:, None, None]
    yield canvas
    frames = strokes.frames.astype(np.float64) * [height, width, height, width]
    windows = _bounding_windows(model, strokes.values, frames, height, width)
    for values, frame, window in zip(strokes.values, frames, windows, strict=True):
        for band in bands(window, _PIXELS_AT_ONCE):
            alpha = model.rasterise(values[None, :-_COLOUR], *pixel_coordinates(frame[None], [band]))[0]
            piece = canvas[:, *band.slices()]
            piece += alpha * (values[-_COLOUR:, None, None] - piece)
        yield canvas


def _cut(images: np.ndarray, who: np.ndarray, boxes: list[Box]) -> np.ndarray:
    """Box i, all of one size, out of image ``who[i]``: [B, 3, H, W] -> [len(who), 3, h, w]."""
    return np.stack([images[b][:, *box.slices()] for b, box in zip(who, boxes, strict=True)])


def _remaining_error(easel: _Easel, who: np.ndarray, tiles: list[Box]) -> np.ndarray:
    """Summed squared error of each tile, [len(who), tiles], from one integral image a picture.

    Of a large picture every n-th row and column is enough to tell tiles apart.
    """
    thin = max(1, max(easel.target.shape[2:]) // _JUDGED_SIDE)
    part = np.s_[:, :, ::thin, ::thin]
    error = np.square(easel.canvas[part][who] - easel.target[part][who]).sum(1, dtype=np.float64)
    integral = np.pad(error.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    corners = np.array([[tile.top, tile.left, tile.top + tile.height, tile.left + tile.width] for tile in tiles])
    # Rounded up on both sides: rows start .. stop - 1 hold the multiples ceil(start / n) .. ceil(stop / n) - 1 of n.
    top, left, bottom, right = (-(-corners // thin)).T
    return integral[:, bottom, right] - integral[:, top, right] - integral[:, bottom, left] + integral[:, top, left]


def _rasterise(model: PaintingModel, strokes: np.ndarray, boxes: list[Box], windows: list[Box]) -> np.ndarray:
    """Opacity [n, bundle, h, w] of strokes [n, bundle, P] placed in ``boxes``, on ``windows`` of one size."""
    count, bundle, parameters = strokes.shape
    rows, columns, pitch = pixel_coordinates(np.array([corner_and_sides(box) for box in boxes]), windows)
    repeated = (np.repeat(array, bundle, 0) for array in (rows, columns, pitch))
    flat = strokes.reshape(count * bundle, parameters)
    alpha = _in_chunks(model, flat[:, :-_COLOUR], *repeated)
    return alpha.reshape(count, bundle, *alpha.shape[1:])


def _in_chunks(model: PaintingModel, *arrays: np.ndarray) -> np.ndarray:
    pixels = arrays[1].shape[1] * arrays[2].shape[1]
    chunk = max(1, _PIXELS_AT_ONCE // pixels)
    if len(arrays[0]) <= chunk:
        return model.rasterise(*arrays)
    parts = range(0, len(arrays[0]), chunk)
    return np.concatenate([model.rasterise(*(array[at : at + chunk] for array in arrays)) for at in parts])


def _bounding_windows(
    model: PaintingModel, values: np.ndarray, frames: np.ndarray, height: int, width: int
) -> list[Box]:
    """Windows that hold all paint of strokes [N, P] in ``frames`` [N, 4] (pixels), cut to a height x width raster."""
    if not len(values):
        return []
    corner, side = np.tile(frames[:, :2], 2), np.tile(frames[:, 2:], 2)
    bounds = corner + side * model.bounds(values[:, :-_COLOUR])
    # A pixel more on each side for the soft edge.
    low = np.clip(np.floor(bounds[:, :2]) - 1, 0, [height, width]).astype(int)
    high = np.clip(np.ceil(bounds[:, 2:]) + 1, low, [height, width]).astype(int)
    return [Box(*map(int, (*start, *(stop - start)))) for start, stop in zip(low, high, strict=True)]
