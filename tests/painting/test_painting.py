"""The search: budgets, tiles, and the same strokes at any size. With models that can be computed by hand."""

from pathlib import Path

import numpy as np
import pytest

from lpaint.painting.engine.candidates import CandidatePool
from lpaint.painting.engine.colour import fit_colour
from lpaint.painting.engine.geometry import Box, even_grid, half_overlapping_tiles
from lpaint.painting.engine.resample import resize, scaled_size
from lpaint.painting.engine.search import paint_by_search, paint_on_grid
from lpaint.painting.onnx_model import OnnxPainter
from lpaint.painting.picture import Plan, paint_picture
from lpaint.painting.render import draw_strokes


class Dabs:
    """Two opaque dabs an action that extend ``bleed`` beyond the frame; records the fractions it is given."""

    canvas, bundle, max_steps, overhang = 8, 2, 3, 0.26
    fits_colours, initial_canvas, protocol = False, "black", "search"

    def __init__(self, zoom: tuple[int, ...] = (1, 2), bleed: float = 0.0) -> None:
        self.zoom, self.bleed = zoom, bleed
        self.fractions: list[np.ndarray] = []
        self.opacity = 1.0

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        assert canvas.shape == target.shape == (len(fraction), 3, 8, 8)
        self.fractions.append(fraction.copy())
        strokes = np.zeros((len(target), 2, 13), np.float32)
        strokes[:, 0, 10:] = target[:, :, :4].mean((2, 3))
        strokes[:, 1, 10:] = target[:, :, 4:].mean((2, 3))
        strokes[:, 1, 0] = 1
        return strokes

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        low = np.where(shape[:, 0] > 0, 0.5, -self.bleed)[:, None]
        high = np.where(shape[:, 0] > 0, 1 + self.bleed, 0.5)[:, None]
        down = (rows >= low) & (rows < high)
        across = (columns >= -self.bleed) & (columns < 1 + self.bleed)
        return self.opacity * (down[:, :, None] & across[:, None, :]).astype(np.float32)

    def bounds(self, shape: np.ndarray) -> np.ndarray:
        low = np.full(len(shape), -self.bleed)
        return np.stack([low, low, 1 - low, 1 - low], 1)


def _quarters(height: int = 32, width: int = 48) -> np.ndarray:
    """A picture of four flat quarters: [3, height, width]."""
    picture = np.zeros((3, height, width), np.float32)
    for i, j, shade in ((0, 0, 0.2), (0, 1, 0.4), (1, 0, 0.6), (1, 1, 0.8)):
        rows, columns = slice(i * height // 2, (i + 1) * height // 2), slice(j * width // 2, (j + 1) * width // 2)
        picture[:, rows, columns] = shade
    return picture


def _error(canvas: np.ndarray, target: np.ndarray) -> float:
    return float(np.square(canvas - target).mean())


def test_whole_first_then_tiles_until_no_error_is_left() -> None:
    model, target = Dabs(), _quarters()
    painting = paint_by_search(model, target[None], [2, 100])
    halves = painting.snapshots[2][0]
    np.testing.assert_allclose(halves[:, :16], 0.3, atol=1e-6)
    np.testing.assert_allclose(halves[:, 16:], 0.7, atol=1e-6)
    assert _error(painting.snapshots[100][0], target) < 1e-10
    frames = painting.strokes[0].frames
    assert (frames[:2] == [0, 0, 1, 1]).all() and (frames[2:, 2:] <= 0.5).all()
    assert len(painting.strokes[0]) < 20, "strokes that do not help are not kept"


def test_budget_is_kept_for_every_picture_of_a_batch() -> None:
    rng = np.random.default_rng(0)
    target = rng.random((3, 3, 24, 24), np.float32)
    painting = paint_by_search(Dabs(), target, [1, 3, 7])
    assert [len(strokes) for strokes in painting.strokes] == [7, 7, 7]
    for b in range(3):
        errors = [_error(painting.snapshots[budget][b], target[b]) for budget in (1, 3, 7)]
        assert errors == sorted(errors, reverse=True) and errors[0] < _error(np.zeros_like(target[b]), target[b])


def test_pictures_of_a_batch_do_not_mix() -> None:
    target = np.random.default_rng(1).random((2, 3, 24, 24), np.float32)
    together = paint_by_search(Dabs(bleed=0.2), target, [20])
    for b in range(2):
        alone = paint_by_search(Dabs(bleed=0.2), target[b : b + 1], [20])
        np.testing.assert_array_equal(together.snapshots[20][b], alone.snapshots[20][0])


def test_actor_is_told_the_step_as_a_share_of_the_episode() -> None:
    # A model whose strokes always help: each bundle that is painted takes the picture a step on.
    model = Dabs(zoom=(1,))
    model.opacity = 0.3
    paint_by_search(model, _quarters()[None], [10], effort=1)
    fractions = [float(fraction[0]) for fraction in model.fractions]
    assert fractions[:3] == pytest.approx([0, 1 / 3, 2 / 3]) and fractions[3:] == pytest.approx([2 / 3] * 2)


def test_model_that_never_zoomed_paints_the_whole_picture_only() -> None:
    model = Dabs(zoom=(1,))
    target = np.random.default_rng(2).random((1, 3, 16, 16), np.float32)
    painting = paint_by_search(model, target, [50])
    assert len(painting.strokes[0]) and (painting.strokes[0].frames == [0, 0, 1, 1]).all()


def test_black_picture_needs_no_stroke_and_ends() -> None:
    painting = paint_by_search(Dabs(), np.zeros((1, 3, 16, 16), np.float32), [10])
    assert len(painting.strokes[0]) == 0 and painting.snapshots[10].max() == 0


@pytest.mark.parametrize(("height", "width"), [(33, 47), (16, 64)])
def test_grid_covers_every_pixel_once(height: int, width: int) -> None:
    for divide in (1, 3, 5):
        count = np.zeros((height, width), int)
        for box in even_grid(divide, height, width):
            count[box.slices()] += 1
        assert (count == 1).all()


def test_tiles_cover_the_picture_at_every_scale_and_overlap_by_half() -> None:
    boxes = half_overlapping_tiles((2, 4, 8), 40, 60)
    assert len(boxes) == 9 + 49 + 225
    for scale in (2, 4, 8):
        mine = [box for box in boxes if box.height == 40 // scale]
        covered = np.zeros((40, 60), bool)
        for box in mine:
            covered[box.slices()] = True
            assert box.top + box.height <= 40 and box.left + box.width <= 60
            assert box.width == round(60 / scale)
        assert covered.all() and len(mine) == (2 * scale - 1) ** 2


def test_window_grows_by_the_overhang_and_stays_in_the_picture() -> None:
    window = Box(0, 10, 10, 10).widened(0.26, 40, 40)
    assert (window.height, window.width) == (16, 16)
    assert window.top == 0 and window.left <= 7 and window.left + window.width >= 23


def test_even_grid_spends_its_steps_and_reports_them() -> None:
    model = Dabs()
    calls: list[int] = []
    painting = paint_on_grid(model, _quarters(), 2, 3, calls.append)
    assert calls[-1] == 3 * 2 * (1 + 4) == Plan(divide=2, steps=3).total(model)
    assert _error(painting.snapshots[30][0], _quarters()) < 1e-10


def test_strokes_are_not_cut_at_tile_edges() -> None:
    target = np.ones((3, 32, 32), np.float32)
    target[:, 16:, 16:] = 0.5
    painting = paint_on_grid(Dabs(bleed=0.25), target, 2, 1)
    rows = {tuple(frame) for frame in painting.strokes[0].frames}
    assert (0.0, 0.0, 0.5, 0.5) in rows or (0.5, 0.5, 0.5, 0.5) in rows
    small, cut = Dabs(bleed=0.25), Dabs(bleed=0.0)
    one, other = (next(iter(paint_on_grid(model, target, 2, 1).snapshots.values())) for model in (small, cut))
    assert not np.array_equal(one, other)


@pytest.fixture(scope="module")
def trained(actor: Path) -> OnnxPainter:
    return OnnxPainter(actor, "cpu", threads=1)


def _photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours with an edge: [3, height, width] in [0, 1]."""
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    picture = np.stack([rows, columns, (rows + columns > 1).astype(float)])
    return picture.astype(np.float32)


def test_strokes_redrawn_at_the_painted_size_are_the_painting(trained: OnnxPainter) -> None:
    target = _photograph(40, 56)
    painting = paint_by_search(trained, target[None], [60])
    *_, redrawn = draw_strokes(trained, painting.strokes[0], 40, 56)
    np.testing.assert_allclose(redrawn, painting.snapshots[60][0], atol=1e-4)


def test_strokes_at_four_times_the_size_are_the_same_picture_with_finer_edges(trained: OnnxPainter) -> None:
    target = _photograph(48, 64)
    painting = paint_by_search(trained, target[None], [40])
    *_, large = draw_strokes(trained, painting.strokes[0], 192, 256)
    shrunk = large.reshape(3, 48, 4, 64, 4).mean((2, 4))
    assert np.abs(shrunk - painting.snapshots[40][0]).mean() < 0.01


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (97, 61)])
def test_any_size_is_painted_at_its_own_size(trained: OnnxPainter, height: int, width: int) -> None:
    canvas = paint_picture(trained, _photograph(height, width), Plan(strokes=20)).canvas(trained)
    assert canvas.shape == (3, height, width) and np.isfinite(canvas).all() and 0 <= canvas.min() <= canvas.max() <= 1


def test_large_picture_is_judged_small_and_drawn_large(trained: OnnxPainter) -> None:
    target = _photograph(1100, 1400)
    painted = paint_picture(trained, target, Plan(strokes=12))
    canvas = painted.canvas(trained)
    assert canvas.shape == target.shape and len(painted.strokes) == 12
    assert _error(canvas, target) < _error(np.zeros_like(target), target)


def test_a_painting_has_the_size_that_was_asked_for(trained: OnnxPainter) -> None:
    assert paint_picture(trained, _photograph(30, 60), Plan(strokes=8), (50, 100)).canvas(trained).shape == (3, 50, 100)
    assert scaled_size(1, 5000, 16) == (1, 16)


def test_resize_averages_down_and_keeps_flat_pictures_flat() -> None:
    picture = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_allclose(resize(picture, 2, 2)[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    flat = np.full((1, 3, 7, 5), 0.3, np.float32)
    for size in ((3, 2), (14, 20), (7, 5)):
        np.testing.assert_allclose(resize(flat, *size), 0.3, atol=1e-6)


@pytest.mark.parametrize("side", [256, 12])
def test_what_is_painted_is_what_its_strokes_draw(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # A small side: candidates are compared on every third pixel, and painted on all of them.
    monkeypatch.setattr("lpaint.painting.engine.search._RASTER_SIDE", side)
    target = np.random.default_rng(3).random((2, 3, 32, 40), np.float32)
    painting = paint_by_search(Dabs(bleed=0.2), target, [5, 30])
    for b in range(2):
        errors = [_error(painting.snapshots[budget][b], target[b]) for budget in (5, 30)]
        assert errors[1] <= errors[0] < _error(np.zeros_like(target[b]), target[b])
        *_, drawn = draw_strokes(Dabs(bleed=0.2), painting.strokes[b], 32, 40)
        np.testing.assert_allclose(painting.snapshots[30][b], drawn, atol=1e-6)


def test_a_larger_effort_needs_fewer_strokes() -> None:
    target = np.kron(np.random.default_rng(4).random((4, 3, 8, 8)), np.ones((4, 4))).astype(np.float32)
    hasty, picky = (paint_by_search(Dabs(), target, [20], effort=effort).snapshots[20] for effort in (1, 40))
    assert np.square(picky - target).mean() < 0.9 * np.square(hasty - target).mean()


class _LateStarter(Dabs):
    """Dabs that are black, as the canvas is, until the last step."""

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        strokes = super().act(canvas, target, fraction)
        strokes[fraction < 0.6, :, 10:] = 0
        return strokes


def _pool(fits_colours: bool) -> tuple[CandidatePool, np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Three tiles of a 12 x 10 picture with four random strokes each: pool, canvas, target, strokes, opacities."""
    rng = np.random.default_rng(5)
    canvas, target = rng.random((2, 3, 12, 10), np.float32)
    tiles = [Box(0, 0, 6, 5), Box(3, 2, 6, 5), Box(6, 5, 6, 5)]
    values = [rng.random((4, 13), np.float32) for _ in tiles]
    alpha = [rng.random((4, 6, 5), np.float32) * rng.random((4, 1, 1), np.float32) for _ in tiles]
    pool = CandidatePool(tiles, tiles, 4, 3, fits_colours)
    for tile in range(3):
        pool.add(tile, values[tile], alpha[tile], canvas, target)
    return pool, canvas, target, values, alpha


def _gain(canvas: np.ndarray, target: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> float:
    after = canvas + alpha * (colour[:, None, None] - canvas)
    return float(np.square(canvas - target).sum() - np.square(after - target).sum())


@pytest.mark.parametrize("fits_colours", [False, True])
def test_a_candidates_gain_is_the_error_that_it_removes(fits_colours: bool) -> None:
    pool, canvas, target, values, alpha = _pool(fits_colours)
    for tile, box in enumerate(pool.tiles):
        part = [image[:, *box.slices()] for image in (canvas, target)]
        for k in range(4):
            colour = values[tile][k, 10:]
            if fits_colours:
                colour = fit_colour(part[0], alpha[tile][k : k + 1], colour[None], part[1])[0]
            expected = _gain(part[0], part[1], alpha[tile][k], colour)
            assert pool.gains[tile, k] == pytest.approx(expected, abs=1e-4)


def test_the_best_candidate_is_found_although_gains_are_out_of_date() -> None:
    pool, canvas, target, values, alpha = _pool(fits_colours=True)
    seen = []
    while True:
        tile, k, gain = pool.best(canvas, target)
        exact = {}
        for t, box in enumerate(pool.tiles):
            part = [image[:, *box.slices()] for image in (canvas, target)]
            for i in range(4):
                colour = fit_colour(part[0], alpha[t][i : i + 1], values[t][i : i + 1, 10:], part[1])[0]
                exact[t, i] = _gain(part[0], part[1], alpha[t][i], colour)
        left = {place: value for place, value in exact.items() if place not in seen}
        if gain == 0:
            break
        # Gains may also rise where another stroke spoilt a place; those count from when they are asked about again.
        assert gain == pytest.approx(exact[tile, k], abs=1e-4) and gain > 0.5 * max(left.values())
        window = canvas[:, *pool.tiles[tile].slices()]
        colour = fit_colour(
            window,
            alpha[tile][k : k + 1],
            pool.pop(tile, k)[0][None, 10:],
            target[:, *pool.tiles[tile].slices()],
        )[0]
        window += alpha[tile][k] * (colour[:, None, None] - window)
        seen.append((tile, k))
    assert len(seen) > 3


class _Useless(Dabs):
    """Proposes strokes that never help, and counts how often it is asked."""

    asked = 0

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        self.asked += len(canvas)
        strokes = super().act(canvas, target, fraction)
        strokes[..., -3:] = 1 - target.mean((2, 3)).round()[:, None]
        return strokes


def test_a_model_that_never_helps_is_not_asked_for_ever() -> None:
    model = _Useless(zoom=(1, 2))
    target = np.zeros((1, 3, 128, 128), np.float32)
    target[..., :64] = 0.02
    painting = paint_by_search(model, target, [1000], effort=1)
    assert len(painting.strokes[0]) == 0 and 256 <= model.asked <= 300


def test_what_does_not_help_at_one_step_may_at_the_next() -> None:
    model = _LateStarter(zoom=(1,))
    painting = paint_by_search(model, _quarters()[None], [10])
    assert [float(fraction[0]) for fraction in model.fractions[:3]] == pytest.approx([0, 1 / 3, 2 / 3])
    assert len(painting.strokes[0]) == 2


def test_only_tiles_that_were_painted_on_are_asked_about_again() -> None:
    pool, canvas, target, _, _ = _pool(fits_colours=True)
    error = np.square(canvas - target).sum(0)
    assert not len(pool.next_tiles(error, 3))
    pool.mark_painted(0, 0)
    assert sorted(pool.next_tiles(error, 3)) == [0, 1], "the second overlaps the first, the third does not"
    assert pool.steps.tolist() == [0.25, 0, 0]
    assert len(pool.next_tiles(error, 1)) == 1


class _Wrong(Dabs):
    """Dabs whose colours are all grey."""

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        strokes = super().act(canvas, target, fraction)
        strokes[:, :, 10:] = 0.5
        return strokes


@pytest.mark.parametrize("limit", [24, 256])
def test_a_fitted_colour_is_the_shapes_best(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpaint.painting.engine.search._RASTER_SIDE", limit)
    model = _Wrong()
    model.fits_colours = True
    painting = paint_by_search(model, _quarters()[None], [2, 100])
    np.testing.assert_allclose(painting.snapshots[2][0, :, :16], 0.3, atol=1e-3)
    assert _error(painting.snapshots[100][0], _quarters()) < 1e-4
    *_, drawn = draw_strokes(model, painting.strokes[0], 32, 48)
    np.testing.assert_allclose(drawn, painting.snapshots[100][0], atol=1e-5)


@pytest.mark.parametrize("background", ["white", "mean"])
def test_a_painting_starts_from_the_models_background(background: str) -> None:
    model = Dabs()
    model.initial_canvas = background
    target = np.random.default_rng(3).random((2, 3, 24, 24), np.float32)
    painting = paint_by_search(model, target, [3])
    for b in range(2):
        bare, *_, drawn = (canvas.copy() for canvas in draw_strokes(model, painting.strokes[b], 24, 24))
        expected = np.ones(3) if background == "white" else target[b].mean((1, 2))
        np.testing.assert_allclose(bare[:, 5, 7], expected, atol=1e-6)
        np.testing.assert_allclose(drawn, painting.snapshots[3][b], atol=1e-5)


def test_a_given_background_replaces_the_models(trained: OnnxPainter) -> None:
    target = _photograph(20, 30)
    painted = paint_picture(trained, target, Plan(strokes=3, background=(1.0, 0.5, 0.0)))
    assert painted.strokes.background == (1.0, 0.5, 0.0)
    *_, drawn = draw_strokes(trained, painted.strokes, 20, 30)
    np.testing.assert_allclose(drawn, painted.canvas(trained), atol=1e-4)


def test_large_strokes_may_be_laid_first(trained: OnnxPainter) -> None:
    target = _photograph(40, 40)
    plain, sorted_ = (
        paint_picture(trained, target, Plan(strokes=30, order=order)) for order in ("painted", "large-first")
    )
    areas = sorted_.strokes.frames[:, 2] * sorted_.strokes.frames[:, 3]
    assert (np.diff(areas) <= 1e-6).all() and len(set(areas.round(6))) > 1
    assert {tuple(row) for row in plain.strokes.values.tolist()} == {
        tuple(row) for row in sorted_.strokes.values.tolist()
    }
    *_, drawn = draw_strokes(trained, sorted_.strokes, 40, 40)
    np.testing.assert_allclose(drawn, sorted_.canvas(trained), atol=1e-6)


def test_large_strokes_that_do_not_help_are_not_drawn_in_full() -> None:
    model = _Useless(zoom=(1,))
    drawn: list[int] = []
    rasterise = model.rasterise

    def counting(shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pixel_size: np.ndarray) -> np.ndarray:
        drawn.append(rows.shape[1] * columns.shape[1])
        return rasterise(shape, rows, columns, pixel_size)

    model.rasterise = counting  # type: ignore[method-assign]
    target = np.full((3, 512, 512), 0.02, np.float32)
    painting = paint_on_grid(model, target, divide=1, steps=2)
    assert len(painting.strokes[0]) == 0 and len(drawn) == 4 and max(drawn) < 5000


def test_a_grid_does_not_ask_again_where_nothing_changed() -> None:
    model = _Useless(zoom=(1,))
    paint_on_grid(model, np.full((3, 64, 64), 0.02, np.float32), divide=2, steps=20)
    # Three steps of an episode, on the whole and on four tiles; after that the answer would be the same.
    assert model.asked == 3 * 5
