"""Turning pictures into strokes: the whole picture first, then tiles, with numpy and a painting model.

Pictures of any aspect are squashed to a unit square; a tile is a box of pixels in it. Every stroke is kept with its
*frame*, the box (top, left, height, width) in the unit square in which the model placed it, so that the same strokes
can be drawn at any size. Strokes are not cut at the edges of their tile.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from lpaint.painting.fit import COLOUR, fit_colour
from lpaint.painting.geometry import (
    Box,
    bands,
    corner_and_sides,
    even_grid,
    half_overlapping_tiles,
    pixel_coordinates,
)
from lpaint.painting.proposals import Proposals, Raster, gains
from lpaint.painting.resample import resize

EFFORT = 8
# Opacity maps drawn at once hold at most this many pixels: they stay in cache, and memory stays bounded.
_PIXELS_AT_ONCE = 1 << 18
# Proposals for a large picture are judged by every n-th pixel, of which this many remain on the longer side.
_JUDGED_SIDE = 256
# Tiles are at least so many pixels of what proposals are judged on, and at most so many fit into a side.
_LEAST_TILE, _FINEST = 4, 64
# Tiles that the model is asked about at once.
_ASKED_AT_ONCE = 128
# A painter that asks about many tiles paints, of their strokes, only those whose gain is this share of the best's, ...
_SELECTIVITY = 0.7
# ... and asks again after one stroke for so many tiles.
_TILES_A_STROKE = 4
# Strokes of more pixels than a few times this many are first looked at on about so many of them.
_GLANCED_AT = 2048
# Tiles in a row that may have nothing to offer before a picture is taken to be finished.
_PATIENCE = 256


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

    def large_first(self) -> "Strokes":
        """The same strokes, those of larger frames first; frames of one size keep their order."""
        order = np.argsort(-np.round(self.frames[:, 2] * self.frames[:, 3], 6), kind="stable")
        return Strokes(self.frames[order], self.values[order], self.ground)


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
    parameters: int = COLOUR
    frames: list[list[np.ndarray]] = field(default_factory=list)
    values: list[list[np.ndarray]] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        model: PaintingModel,
        target: np.ndarray,
        budgets: Sequence[int],
        given: tuple[float, float, float] | None = None,
    ) -> "_Easel":
        count = len(target)
        ground = target.mean((2, 3)) if model.start == "mean" else np.full((count, 3), float(model.start == "white"))
        if given is not None:
            ground = np.tile(np.array(given), (count, 1))
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

    def see(self, model: PaintingModel, who: Sequence[int], boxes: Sequence[Box], fraction: np.ndarray) -> np.ndarray:
        """What the model proposes in ``boxes[i]`` (all of one size) of picture ``who[i]``: [n, bundle, P]."""
        seen = [resize(_cut(image, who, boxes), model.canvas, model.canvas) for image in (self.canvas, self.target)]
        strokes = np.array(model.act(seen[0], seen[1], fraction.astype(np.float32)))
        self.parameters = strokes.shape[2]
        return strokes

    def lay(self, model: PaintingModel, b: int, box: Box, values: np.ndarray, window: Box, alpha: np.ndarray) -> bool:
        """Lay one stroke [P], of opacity [h, w] on ``window``, if that lowers the squared error; whether it did."""
        if self.used[b] >= self.budgets[-1]:
            return False
        canvas, target = (image[b][:, *window.slices()] for image in (self.canvas, self.target))
        if model.fitted:
            values[-COLOUR:] = fit_colour(canvas, alpha[None], values[None, -COLOUR:], target)[0]
        after = canvas + alpha * (values[-COLOUR:, None, None] - canvas)
        if np.square(after - target).sum() >= np.square(canvas - target).sum():
            return False
        canvas[:] = after
        self._record(b, box, values)
        return True

    def draw_and_lay(self, model: PaintingModel, b: int, box: Box, strokes: np.ndarray) -> bool:
        """Lay strokes [n, P] in order, each drawn on its own bounds; whether any was kept."""
        height, width = self.target.shape[2:]
        windows = _bounding_windows(model, strokes, np.tile(corner_and_sides(box), (len(strokes), 1)), height, width)
        kept = False
        for values, window in zip(strokes, windows, strict=True):
            if not window.height * window.width:
                continue
            places = pixel_coordinates(corner_and_sides(box)[None], [window])
            if self._looks_useful(model, b, values, window, places):
                kept |= self.lay(model, b, box, values, window, model.rasterise(values[None, :-COLOUR], *places)[0])
        return kept

    def _looks_useful(
        self, model: PaintingModel, b: int, values: np.ndarray, window: Box, places: tuple[np.ndarray, ...]
    ) -> bool:
        """Whether a large stroke [P] helps on every n-th pixel, which is quick to tell; True for a small one."""
        every = math.isqrt(window.height * window.width // _GLANCED_AT)
        if every < 2:
            return True
        rows, columns, pitch = places
        alpha = model.rasterise(values[None, :-COLOUR], rows[:, ::every], columns[:, ::every], pitch)
        bare, wanted = (image[b][:, *window.slices()][:, ::every, ::every] for image in (self.canvas, self.target))
        return bool(gains(values[None], alpha, bare, wanted, model.fitted)[0] > 0)

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
    effort: int = EFFORT,
    ground: tuple[float, float, float] | None = None,
) -> Painting:
    """Paint pictures within a budget of strokes, where the remaining error is largest.

    In turns, the model is asked about the ``effort`` most promising tiles (the whole picture first), of overlapping
    ones, half a tile apart, at every scale of the model's zoom and finer, down to a few pixels; then those strokes are
    painted that lower the error most, of all that were proposed so far. With ``effort`` 1 nearly every stroke is
    painted; the more tiles are asked about, the pickier is the painter, and the fewer strokes does a picture need. A
    model that never saw tiles (zoom [1]) goes on with the whole picture. A picture is finished early where hundreds of
    tiles in a row, the most promising ones, had no stroke to offer that helps.

    Args:
        model: the trained painter.
        target: [B, 3, H, W] float32 in [0, 1].
        budgets: stroke counts at which to keep the canvases; the largest ends the painting.
        on_progress: called with the least number of strokes that any picture has.
        effort: tiles that the model is asked about before strokes are chosen.
        ground: red, green and blue of the bare canvas, in [0, 1]; None = as ``model.start`` says.

    Returns:
        Snapshots at each budget (fewer strokes where nothing more helped) and the strokes.
    """
    height, width = target.shape[2:]
    easel = _Easel.start(model, target, budgets, ground)
    raster = Raster(height, width, max(1, max(height, width) // _JUDGED_SIDE))
    tiles = [Box(0, 0, height, width)]
    if len(model.zoom) > 1:
        scales = [scale for scale in _scales(model.zoom) if min(raster.shape) >= _LEAST_TILE * scale or scale == 2]
        tiles += half_overlapping_tiles(scales, height, width)
    windows = [raster.window(tile, model.reach) for tile in tiles]
    how = (model.bundle, model.max_steps, model.fitted)
    proposals = [Proposals(tiles, windows, *how) for _ in range(len(target))]
    working, barren = set(range(len(target))), np.zeros(len(target), int)
    while working:
        asked = _ask(model, easel, raster, {b: proposals[b] for b in sorted(working)}, effort)
        for b in sorted(working):
            laid = _paint_best(model, easel, raster, b, proposals[b], effort)
            barren[b] = 0 if laid else barren[b] + asked[b]
            if easel.full[b] or barren[b] > _PATIENCE or not (laid or asked[b]):
                working.discard(b)
        if on_progress is not None:
            on_progress(int(easel.used.min()))
    return easel.finish()


def _scales(zoom: Sequence[int]) -> list[int]:
    """The scales of the training but the first, and finer ones, each twice as fine as the one before."""
    scales = list(zoom[1:])
    while scales[-1] < _FINEST:
        scales.append(2 * scales[-1])
    return scales


def _ask(
    model: PaintingModel, easel: _Easel, raster: Raster, proposals: dict[int, Proposals], effort: int
) -> dict[int, int]:
    """Ask the model about the most promising tiles of every picture; how many of each."""
    wanted: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    counts = {}
    for b, proposed in proposals.items():
        error = np.square(raster.of(easel.canvas[b]) - raster.of(easel.target[b])).sum(0)
        chosen = proposed.next_tiles(error, effort)
        counts[b] = len(chosen)
        for tile in chosen:
            box, window = proposed.tiles[tile], proposed.windows[tile]
            wanted.setdefault((box.height, box.width, window.height, window.width), []).append((b, int(tile)))
    for group in wanted.values():
        for at in range(0, len(group), _ASKED_AT_ONCE):
            part = group[at : at + _ASKED_AT_ONCE]
            boxes = [proposals[b].tiles[tile] for b, tile in part]
            visits = np.array([min(int(proposals[b].visits[tile]), model.max_steps - 1) for b, tile in part])
            strokes = easel.see(model, [b for b, _ in part], boxes, visits / model.max_steps)
            windows = [proposals[b].windows[tile] for b, tile in part]
            alpha = _rasterise(model, strokes, raster, boxes, windows)
            for (b, tile), values, opacity in zip(part, strokes, alpha, strict=True):
                canvas, target = (raster.of(images[b]) for images in (easel.canvas, easel.target))
                proposals[b].put(tile, values, opacity, canvas, target)
    return counts


def _paint_best(model: PaintingModel, easel: _Easel, raster: Raster, b: int, proposals: Proposals, effort: int) -> int:
    """Paint the proposed strokes that help picture ``b`` most; how many."""
    canvas, target = (raster.of(images[b]) for images in (easel.canvas, easel.target))
    laid, enough = 0, 0.0
    while laid < max(model.bundle, effort // _TILES_A_STROKE) and not easel.full[b]:
        tile, k, gain = proposals.best(canvas, target)
        if gain <= enough:
            break
        enough = max(enough, gain * _SELECTIVITY) if effort > 1 else 0.0
        window, alpha = proposals.windows[tile], proposals.alpha(tile, k)
        values = proposals.take(tile, k)
        if raster.thin == 1:
            kept = easel.lay(model, b, proposals.tiles[tile], values, window, alpha)
        else:
            kept = easel.draw_and_lay(model, b, proposals.tiles[tile], values[None])
        if kept:
            proposals.painted(tile, k)
            laid += 1
    return laid


def paint_grid(
    model: PaintingModel,
    target: np.ndarray,
    divide: int,
    steps: int,
    on_progress: Callable[[int], None] | None = None,
    ground: tuple[float, float, float] | None = None,
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
        ground: red, green and blue of the bare canvas, in [0, 1]; None = as ``model.start`` says.
    """
    _, height, width = target.shape
    easel = _Easel.start(model, target[None], [steps * model.bundle * (1 + divide * divide)], ground)
    grid = [Box(0, 0, height, width)], even_grid(divide, height, width)
    done = 0
    for boxes in grid if divide > 1 else grid[:1]:
        # What the model saw when none of its strokes helped: of the same canvas at the same step it would say the same.
        turned_down: dict[Box, np.ndarray] = {}
        for k in range(steps):
            step = min(k, model.max_steps - 1)
            for box in boxes:
                done += model.bundle
                seen = easel.canvas[0][:, *box.slices()]
                if step == model.max_steps - 1 and np.array_equal(turned_down.get(box, ()), seen):
                    continue
                strokes = easel.see(model, [0], [box], np.array([step / model.max_steps]))[0]
                if not easel.draw_and_lay(model, 0, box, strokes) and step == model.max_steps - 1:
                    turned_down[box] = seen.copy()
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
            alpha = model.rasterise(values[None, :-COLOUR], *pixel_coordinates(frame[None], [band]))[0]
            piece = canvas[:, *band.slices()]
            piece += alpha * (values[-COLOUR:, None, None] - piece)
        yield canvas


def _cut(images: np.ndarray, who: Sequence[int], boxes: Sequence[Box]) -> np.ndarray:
    """Box i, all of one size, out of image ``who[i]``: [B, 3, H, W] -> [len(who), 3, h, w]."""
    return np.stack([images[b][:, *box.slices()] for b, box in zip(who, boxes, strict=True)])


def _rasterise(
    model: PaintingModel, strokes: np.ndarray, raster: Raster, boxes: Sequence[Box], windows: Sequence[Box]
) -> np.ndarray:
    """Opacity [n, bundle, h, w] of strokes [n, bundle, P] placed in ``boxes``, on ``windows`` of one size."""
    count, bundle, parameters = strokes.shape
    places = raster.coordinates(np.array([corner_and_sides(box) for box in boxes]), windows)
    repeated = (np.repeat(array, bundle, 0) for array in places)
    flat = strokes.reshape(count * bundle, parameters)
    alpha = _in_chunks(model, flat[:, :-COLOUR], *repeated)
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
    bounds = corner + side * model.bounds(values[:, :-COLOUR])
    # A pixel more on each side for the soft edge.
    low = np.clip(np.floor(bounds[:, :2]) - 1, 0, [height, width]).astype(int)
    high = np.clip(np.ceil(bounds[:, 2:]) + 1, low, [height, width]).astype(int)
    return [Box(*map(int, (*start, *(stop - start)))) for start, stop in zip(low, high, strict=True)]
