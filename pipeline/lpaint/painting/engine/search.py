"""The search for strokes: which strokes a picture gets, in which order, within a budget."""

from collections.abc import Callable, Sequence

import numpy as np

from lpaint.painting.engine.candidates import CandidatePool, Raster
from lpaint.painting.engine.canvas import CanvasBatch
from lpaint.painting.engine.geometry import MAX_PIXELS, Box, corner_and_sides, even_grid, half_overlapping_tiles
from lpaint.painting.engine.types import COLOUR, PaintingModel, SearchResult

EFFORT = 8
# Candidates for a large picture are compared on every n-th pixel, of which this many remain on the longer side.
_RASTER_SIDE = 256
# The search adds scales up to this one, as long as a tile keeps this many pixels of the raster on its shorter side.
_MIN_TILE, _FINEST_SCALE = 4, 64
# Tiles for which strokes are proposed in one call of the model.
_PROPOSAL_BATCH = 128
# With an effort above 1, a round paints only strokes whose gain is at least this share of the best gain.
_MIN_GAIN_SHARE = 0.7
# A round paints one stroke for every so many tiles, or one bundle if that is more.
_TILES_PER_STROKE = 4
# A picture is finished once this many tiles in a row had no stroke that helps.
_MAX_FAILED_TILES = 256


def episode_strokes(model: PaintingModel) -> int | None:
    """Strokes of the model's episode, if it paints by episode; None if it searches, for as long as strokes help."""
    return model.max_steps * model.bundle if model.protocol == "episode" else None


def budgets_within_episode(model: PaintingModel, budgets: Sequence[int]) -> list[int]:
    """The stroke budgets at which the model can be evaluated, ascending.

    Those up to the end of its episode, or that end itself if all are beyond it; all of them if the model searches.
    """
    most = episode_strokes(model)
    if most is None:
        return sorted(set(budgets))
    return sorted({budget for budget in budgets if budget <= most}) or [most]


def paint(
    model: PaintingModel,
    target: np.ndarray,
    budgets: Sequence[int],
    on_progress: Callable[[int], None] | None = None,
    effort: int = EFFORT,
    background: tuple[float, float, float] | None = None,
) -> SearchResult:
    """Paint pictures within a budget of strokes by the protocol that the model was trained for.

    ``model.protocol`` is one of:

    - ``search``: ``paint_by_search``.
    - ``episode``: the published episode (Huang et al. 2019). At each of ``max_steps`` steps the model sees the whole
      picture and the step as a share of ``max_steps``, and all strokes of its bundle are applied in order. No stroke is
      left out or moved, since a stroke may prepare others. A budget beyond the episode's end is filled by search.

    Args and returned value: as in ``paint_by_search``; ``effort`` matters to the search alone.
    """
    canvases = CanvasBatch.bare(model, target, budgets, background)
    if model.protocol == "episode":
        _run_episode(model, canvases, on_progress)
    return _run_search(model, canvases, effort, on_progress)


def paint_by_search(
    model: PaintingModel,
    target: np.ndarray,
    budgets: Sequence[int],
    on_progress: Callable[[int], None] | None = None,
    effort: int = EFFORT,
    background: tuple[float, float, float] | None = None,
) -> SearchResult:
    """Paint pictures within a budget of strokes, where the remaining error is largest.

    Each round has two parts:

    1. The model proposes strokes for the ``effort`` tiles with the largest expected gain: the whole picture, and tiles
       half a tile apart at every scale of the model's zoom and finer, down to a few pixels.
    2. The strokes that lower the error most, of all candidates so far, are painted.

    With ``effort`` 1 nearly every stroke is painted. A larger effort is more selective, and a picture needs fewer
    strokes. A model that never saw tiles (zoom [1]) sees the whole picture only. A picture is finished early once
    ``_MAX_FAILED_TILES`` tiles in a row had no stroke that helps.

    Args:
        model: the trained model.
        target: [B, 3, H, W] float32 in [0, 1].
        budgets: stroke counts at which to keep the canvases; the largest one is the limit.
        on_progress: called with the least number of strokes that any picture has.
        effort: tiles for which strokes are proposed in each round.
        background: red, green and blue of the bare canvas, in [0, 1]; None = as ``model.initial_canvas`` says.

    Returns:
        Snapshots at each budget (fewer strokes where nothing more helped) and the strokes.
    """
    return _run_search(model, CanvasBatch.bare(model, target, budgets, background), effort, on_progress)


def paint_on_grid(
    model: PaintingModel,
    target: np.ndarray,
    divide: int,
    steps: int,
    on_progress: Callable[[int], None] | None = None,
    background: tuple[float, float, float] | None = None,
) -> SearchResult:
    """Paint one picture evenly: ``steps`` steps on the whole, then ``steps`` steps on each tile of a grid.

    The published way (Huang et al. 2019, section 4.4), except that strokes are not cut at the tiles' edges, each step
    sees what its neighbours painted, and a stroke that would raise the error is left out. The last holds for a model
    that paints by episode, too: a tile does not start bare, as episodes do, and its strokes there often raise the
    error.

    Args:
        model: the trained model.
        target: [3, H, W] float32 in [0, 1].
        divide: tiles a side; 1 = the whole picture only.
        steps: bundles on the whole picture, and on each tile.
        on_progress: called with the number of strokes tried so far.
        background: red, green and blue of the bare canvas, in [0, 1]; None = as ``model.initial_canvas`` says.
    """
    _, height, width = target.shape
    canvases = CanvasBatch.bare(model, target[None], [steps * model.bundle * (1 + divide * divide)], background)
    grid = [Box(0, 0, height, width)], even_grid(divide, height, width)
    done = 0
    for boxes in grid if divide > 1 else grid[:1]:
        # The canvas for which the model's last step did not help: for an equal canvas it proposes the same strokes.
        rejected: dict[Box, np.ndarray] = {}
        for k in range(steps):
            step = min(k, model.max_steps - 1)
            last = step == model.max_steps - 1
            for box in boxes:
                done += model.bundle
                view = canvases.canvas[0][:, *box.slices()]
                if last and np.array_equal(rejected.get(box, ()), view):
                    continue
                strokes = canvases.propose(model, [0], [box], np.array([step / model.max_steps]))[0]
                if not canvases.draw_and_apply(model, 0, box, strokes) and last:
                    rejected[box] = view.copy()
                if on_progress is not None:
                    on_progress(done)
    return canvases.result()


def _run_episode(model: PaintingModel, canvases: CanvasBatch, on_progress: Callable[[int], None] | None) -> None:
    count, _, height, width = canvases.target.shape
    whole = Box(0, 0, height, width)
    for step in range(model.max_steps):
        if canvases.complete.all():
            return
        strokes = canvases.propose(model, range(count), [whole] * count, np.full(count, step / model.max_steps))
        for b in range(count):
            canvases.apply_all(model, b, whole, strokes[b])
        if on_progress is not None:
            on_progress(int(canvases.used.min()))


def _run_search(
    model: PaintingModel, canvases: CanvasBatch, effort: int, on_progress: Callable[[int], None] | None
) -> SearchResult:
    """Paint the strokes that help most on canvases as they are, until every budget is used up or nothing helps."""
    target = canvases.target
    height, width = target.shape[2:]
    raster = Raster(height, width, max(1, max(height, width) // _RASTER_SIDE))
    tiles = [Box(0, 0, height, width)]
    if len(model.zoom) > 1:
        scales = [scale for scale in _scales(model.zoom) if min(raster.shape) >= _MIN_TILE * scale or scale == 2]
        tiles += half_overlapping_tiles(scales, height, width)
    windows = [raster.window(tile, model.overhang) for tile in tiles]
    kind = (model.bundle, model.max_steps, model.fits_colours)
    pools = [CandidatePool(tiles, windows, *kind) for _ in range(len(target))]
    active, failed = set(np.flatnonzero(~canvases.complete).tolist()), np.zeros(len(target), int)
    while active:
        proposed = _propose(model, canvases, raster, {b: pools[b] for b in sorted(active)}, effort)
        for b in sorted(active):
            applied = _apply_best(model, canvases, raster, b, pools[b], effort)
            failed[b] = 0 if applied else failed[b] + proposed[b]
            if canvases.complete[b] or failed[b] > _MAX_FAILED_TILES or not (applied or proposed[b]):
                active.discard(b)
        if on_progress is not None:
            on_progress(int(canvases.used.min()))
    return canvases.result()


def _scales(zoom: Sequence[int]) -> list[int]:
    """The scales of the training but the first, and finer ones, each twice as fine as the one before."""
    scales = list(zoom[1:])
    while scales[-1] < _FINEST_SCALE:
        scales.append(2 * scales[-1])
    return scales


def _propose(
    model: PaintingModel, canvases: CanvasBatch, raster: Raster, pools: dict[int, CandidatePool], effort: int
) -> dict[int, int]:
    """Add the model's strokes for at most ``effort`` tiles of every picture to its pool; how many tiles each had."""
    groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    counts = {}
    for b, pool in pools.items():
        error = np.square(raster.view(canvases.canvas[b]) - raster.view(canvases.target[b])).sum(0)
        chosen = pool.next_tiles(error, effort)
        counts[b] = len(chosen)
        for tile in chosen:
            box, window = pool.tiles[tile], pool.windows[tile]
            groups.setdefault((box.height, box.width, window.height, window.width), []).append((b, int(tile)))
    for group in groups.values():
        for at in range(0, len(group), _PROPOSAL_BATCH):
            part = group[at : at + _PROPOSAL_BATCH]
            boxes = [pools[b].tiles[tile] for b, tile in part]
            steps = np.array([min(int(pools[b].steps[tile]), model.max_steps - 1) for b, tile in part])
            strokes = canvases.propose(model, [b for b, _ in part], boxes, steps / model.max_steps)
            windows = [pools[b].windows[tile] for b, tile in part]
            alpha = _rasterise(model, strokes, raster, boxes, windows)
            for (b, tile), values, opacity in zip(part, strokes, alpha, strict=True):
                canvas, target = (raster.view(images[b]) for images in (canvases.canvas, canvases.target))
                pools[b].add(tile, values, opacity, canvas, target)
    return counts


def _apply_best(
    model: PaintingModel, canvases: CanvasBatch, raster: Raster, b: int, pool: CandidatePool, effort: int
) -> int:
    """Apply the candidates that help picture ``b`` most; how many."""
    canvas, target = (raster.view(images[b]) for images in (canvases.canvas, canvases.target))
    count, min_gain = 0, 0.0
    while count < max(model.bundle, effort // _TILES_PER_STROKE) and not canvases.complete[b]:
        tile, k, gain = pool.best(canvas, target)
        if gain <= min_gain:
            break
        min_gain = max(min_gain, gain * _MIN_GAIN_SHARE) if effort > 1 else 0.0
        values, alpha = pool.pop(tile, k)
        if raster.stride == 1:
            applied = canvases.apply(model, b, pool.tiles[tile], values, pool.windows[tile], alpha)
        else:
            applied = canvases.draw_and_apply(model, b, pool.tiles[tile], values[None])
        if applied:
            pool.mark_painted(tile, k)
            count += 1
    return count


def _rasterise(
    model: PaintingModel, strokes: np.ndarray, raster: Raster, boxes: Sequence[Box], windows: Sequence[Box]
) -> np.ndarray:
    """Opacity [n, bundle, h, w] of strokes [n, bundle, P] placed in ``boxes``, on ``windows`` of one size."""
    count, bundle, parameters = strokes.shape
    pixels = raster.coordinates(np.array([corner_and_sides(box) for box in boxes]), windows)
    repeated = (np.repeat(array, bundle, 0) for array in pixels)
    flat = strokes.reshape(count * bundle, parameters)
    alpha = _rasterise_in_chunks(model, flat[:, :-COLOUR], *repeated)
    return alpha.reshape(count, bundle, *alpha.shape[1:])


def _rasterise_in_chunks(model: PaintingModel, *arrays: np.ndarray) -> np.ndarray:
    pixels = arrays[1].shape[1] * arrays[2].shape[1]
    chunk = max(1, MAX_PIXELS // pixels)
    if len(arrays[0]) <= chunk:
        return model.rasterise(*arrays)
    parts = range(0, len(arrays[0]), chunk)
    return np.concatenate([model.rasterise(*(array[at : at + chunk] for array in arrays)) for at in parts])
