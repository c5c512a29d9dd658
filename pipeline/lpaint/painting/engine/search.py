"""Turning pictures into strokes: the whole picture first, then tiles, with numpy and a painting model."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lpaint.painting.engine.candidates import Proposals, Raster
from lpaint.painting.engine.canvas import Easel, Painting, PaintingModel, Strokes, bounding_windows
from lpaint.painting.engine.colour import COLOUR
from lpaint.painting.engine.geometry import (
    Box,
    bands,
    corner_and_sides,
    even_grid,
    half_overlapping_tiles,
    pixel_coordinates,
)

__all__ = [
    "EFFORT",
    "Painting",
    "PaintingModel",
    "Strokes",
    "draw_strokes",
    "episode_strokes",
    "judged_budgets",
    "paint_as_trained",
    "paint_by_error",
    "paint_grid",
]

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
# Tiles in a row that may have nothing to offer before a picture is taken to be finished.
_PATIENCE = 256


def episode_strokes(model: PaintingModel) -> int | None:
    """Strokes of the model's episode, if it paints by episode; None if it searches, for as long as strokes help."""
    return model.max_steps * model.bundle if model.protocol == "episode" else None


def judged_budgets(model: PaintingModel, budgets: Sequence[int]) -> list[int]:
    """The stroke budgets that the model can be judged at, ascending.

    Those up to the end of its episode, or that end itself if all are beyond it; all of them if it searches.
    """
    most = episode_strokes(model)
    if most is None:
        return sorted(set(budgets))
    return sorted({budget for budget in budgets if budget <= most}) or [most]


def paint_as_trained(
    model: PaintingModel,
    target: np.ndarray,
    budgets: Sequence[int],
    on_progress: Callable[[int], None] | None = None,
    effort: int = EFFORT,
    background: tuple[float, float, float] | None = None,
) -> Painting:
    """Paint pictures within a budget of strokes by the protocol that the model was trained for.

    ``model.protocol`` is one of:

    - ``search``: ``paint_by_error``.
    - ``episode``: the published episode (Huang et al. 2019). At each of ``max_steps`` steps the model sees the whole
      picture and the step as a share of ``max_steps``, and all strokes of its bundle are laid in order. No stroke is
      left out or moved, since a stroke may prepare others. A budget beyond the episode's end goes on by search.

    Args and returned value: as in ``paint_by_error``; ``effort`` matters to the search alone.
    """
    easel = Easel.start(model, target, budgets, background)
    if model.protocol == "episode":
        _paint_episode(model, easel, on_progress)
    return _search(model, easel, effort, on_progress).finish()


def _paint_episode(model: PaintingModel, easel: Easel, on_progress: Callable[[int], None] | None) -> None:
    count, _, height, width = easel.target.shape
    whole = Box(0, 0, height, width)
    for step in range(model.max_steps):
        if easel.full.all():
            return
        strokes = easel.see(model, range(count), [whole] * count, np.full(count, step / model.max_steps))
        for b in range(count):
            easel.lay_all(model, b, whole, strokes[b])
        if on_progress is not None:
            on_progress(int(easel.used.min()))


def paint_by_error(
    model: PaintingModel,
    target: np.ndarray,
    budgets: Sequence[int],
    on_progress: Callable[[int], None] | None = None,
    effort: int = EFFORT,
    background: tuple[float, float, float] | None = None,
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
        background: red, green and blue of the bare canvas, in [0, 1]; None = as ``model.start`` says.

    Returns:
        Snapshots at each budget (fewer strokes where nothing more helped) and the strokes.
    """
    return _search(model, Easel.start(model, target, budgets, background), effort, on_progress).finish()


def _search(model: PaintingModel, easel: Easel, effort: int, on_progress: Callable[[int], None] | None) -> Easel:
    """Paint the strokes that help most on canvases as they are, until every budget is used up or nothing helps."""
    target = easel.target
    height, width = target.shape[2:]
    raster = Raster(height, width, max(1, max(height, width) // _JUDGED_SIDE))
    tiles = [Box(0, 0, height, width)]
    if len(model.zoom) > 1:
        scales = [scale for scale in _scales(model.zoom) if min(raster.shape) >= _LEAST_TILE * scale or scale == 2]
        tiles += half_overlapping_tiles(scales, height, width)
    windows = [raster.window(tile, model.reach) for tile in tiles]
    how = (model.bundle, model.max_steps, model.fitted)
    proposals = [Proposals(tiles, windows, *how) for _ in range(len(target))]
    working, barren = set(np.flatnonzero(~easel.full).tolist()), np.zeros(len(target), int)
    while working:
        asked = _ask(model, easel, raster, {b: proposals[b] for b in sorted(working)}, effort)
        for b in sorted(working):
            laid = _paint_best(model, easel, raster, b, proposals[b], effort)
            barren[b] = 0 if laid else barren[b] + asked[b]
            if easel.full[b] or barren[b] > _PATIENCE or not (laid or asked[b]):
                working.discard(b)
        if on_progress is not None:
            on_progress(int(easel.used.min()))
    return easel


def _scales(zoom: Sequence[int]) -> list[int]:
    """The scales of the training but the first, and finer ones, each twice as fine as the one before."""
    scales = list(zoom[1:])
    while scales[-1] < _FINEST:
        scales.append(2 * scales[-1])
    return scales


def _ask(
    model: PaintingModel, easel: Easel, raster: Raster, proposals: dict[int, Proposals], effort: int
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


def _paint_best(model: PaintingModel, easel: Easel, raster: Raster, b: int, proposals: Proposals, effort: int) -> int:
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
    background: tuple[float, float, float] | None = None,
) -> Painting:
    """Paint one picture evenly: ``steps`` steps on the whole, then ``steps`` steps on each tile of a grid.

    The published way (Huang et al. 2019, section 4.4), except that strokes are not cut at the tiles' edges, each step
    sees what its neighbours painted, and a stroke that would raise the error is left out. The last holds for a model
    that paints by episode, too: a tile does not start bare, as episodes do, and on tiles its strokes often harm.

    Args:
        model: the trained painter.
        target: [3, H, W] float32 in [0, 1].
        divide: tiles a side; 1 = the whole picture only.
        steps: bundles on the whole picture, and on each tile.
        on_progress: called with the number of strokes tried so far.
        background: red, green and blue of the bare canvas, in [0, 1]; None = as ``model.start`` says.
    """
    _, height, width = target.shape
    easel = Easel.start(model, target[None], [steps * model.bundle * (1 + divide * divide)], background)
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
    canvas[:] = np.array(strokes.background)[:, None, None]
    yield canvas
    frames = strokes.frames.astype(np.float64) * [height, width, height, width]
    windows = bounding_windows(model, strokes.values, frames, height, width)
    for values, frame, window in zip(strokes.values, frames, windows, strict=True):
        for band in bands(window, _PIXELS_AT_ONCE):
            alpha = model.rasterise(values[None, :-COLOUR], *pixel_coordinates(frame[None], [band]))[0]
            piece = canvas[:, *band.slices()]
            piece += alpha * (values[-COLOUR:, None, None] - piece)
        yield canvas


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
