"""The painter: budgets, tiles, and the same strokes at any size. With models that can be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from lpaint.painting.geometry import Box, even_grid, half_overlapping_tiles
from lpaint.painting.model import OnnxPainter
from lpaint.painting.painter import draw_strokes, paint_by_error, paint_grid
from lpaint.painting.picture import Plan, paint_picture, scaled
from lpaint.painting.resample import resize


class Dabs:
    """Two opaque dabs an action that reach ``overhang`` beyond the frame; remembers the fractions it is told."""

    canvas, bundle, max_steps, reach = 8, 2, 3, 0.26
    fitted, start = False, "black"

    def __init__(self, zoom: tuple[int, ...] = (1, 2), overhang: float = 0.0) -> None:
        self.zoom, self.overhang = zoom, overhang
        self.fractions: list[np.ndarray] = []

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        assert canvas.shape == target.shape == (len(fraction), 3, 8, 8)
        self.fractions.append(fraction.copy())
        strokes = np.zeros((len(target), 2, 13), np.float32)
        strokes[:, 0, 10:] = target[:, :, :4].mean((2, 3))
        strokes[:, 1, 10:] = target[:, :, 4:].mean((2, 3))
        strokes[:, 1, 0] = 1
        return strokes

    def rasterise(self, shape: np.ndarray, rows: np.ndarray, columns: np.ndarray, pitch: np.ndarray) -> np.ndarray:
        low = np.where(shape[:, 0] > 0, 0.5, -self.overhang)[:, None]
        high = np.where(shape[:, 0] > 0, 1 + self.overhang, 0.5)[:, None]
        down = (rows >= low) & (rows < high)
        across = (columns >= -self.overhang) & (columns < 1 + self.overhang)
        return (down[:, :, None] & across[:, None, :]).astype(np.float32)

    def bounds(self, shape: np.ndarray) -> np.ndarray:
        low = np.full(len(shape), -self.overhang)
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


def test_whole_first_then_tiles_until_nothing_is_left_to_mend() -> None:
    model, target = Dabs(), _quarters()
    painting = paint_by_error(model, target[None], [2, 100])
    halves = painting.snapshots[2][0]
    np.testing.assert_allclose(halves[:, :16], 0.3, atol=1e-6)
    np.testing.assert_allclose(halves[:, 16:], 0.7, atol=1e-6)
    assert _error(painting.snapshots[100][0], target) < 1e-10
    frames = painting.strokes[0].frames
    assert (frames[:2] == [0, 0, 1, 1]).all() and (frames[2:, 2:] <= 0.5).all()
    assert len(painting.strokes[0]) < 20, "strokes that mend nothing are not kept"


def test_budget_is_kept_for_every_picture_of_a_batch() -> None:
    rng = np.random.default_rng(0)
    target = rng.random((3, 3, 24, 24), np.float32)
    painting = paint_by_error(Dabs(), target, [1, 3, 7])
    assert [len(strokes) for strokes in painting.strokes] == [7, 7, 7]
    for b in range(3):
        errors = [_error(painting.snapshots[budget][b], target[b]) for budget in (1, 3, 7)]
        assert errors == sorted(errors, reverse=True) and errors[0] < _error(np.zeros_like(target[b]), target[b])


def test_pictures_of_a_batch_do_not_mix() -> None:
    target = np.random.default_rng(1).random((2, 3, 24, 24), np.float32)
    together = paint_by_error(Dabs(overhang=0.2), target, [20])
    for b in range(2):
        alone = paint_by_error(Dabs(overhang=0.2), target[b : b + 1], [20])
        np.testing.assert_array_equal(together.snapshots[20][b], alone.snapshots[20][0])


def test_actor_is_told_the_step_as_a_share_of_the_episode() -> None:
    model = Dabs()
    paint_by_error(model, _quarters()[None], [6])
    assert [float(fraction[0]) for fraction in model.fractions[:3]] == pytest.approx([0, 1 / 3, 2 / 3])


def test_model_that_never_zoomed_paints_the_whole_picture_only() -> None:
    model = Dabs(zoom=(1,))
    target = np.random.default_rng(2).random((1, 3, 16, 16), np.float32)
    painting = paint_by_error(model, target, [50])
    assert (painting.strokes[0].frames == [0, 0, 1, 1]).all()
    # After its episode it goes on as at the last step of one.
    assert all(fraction[0] == pytest.approx(2 / 3) for fraction in model.fractions[3:])


def test_black_picture_needs_no_stroke_and_ends() -> None:
    painting = paint_by_error(Dabs(), np.zeros((1, 3, 16, 16), np.float32), [10])
    assert len(painting.strokes[0]) == 0 and painting.snapshots[10].max() == 0


@pytest.mark.parametrize(("height", "width"), [(33, 47), (16, 64)])
def test_grid_covers_every_pixel_once(height: int, width: int) -> None:
    for divide in (1, 3, 5):
        count = np.zeros((height, width), int)
        for box in even_grid(divide, height, width):
            count[box.slices()] += 1
        assert (count == 1).all()


def test_tiles_cover_the_picture_at_every_scale_and_overlap_by_half() -> None:
    boxes, scale_of = half_overlapping_tiles((1, 2, 4), 40, 60)
    assert sorted(set(scale_of)) == [2, 4, 8]
    for scale in (2, 4, 8):
        mine = [box for box, of in zip(boxes, scale_of, strict=True) if of == scale]
        covered = np.zeros((40, 60), bool)
        for box in mine:
            covered[box.slices()] = True
            assert box.top + box.height <= 40 and box.left + box.width <= 60
        assert covered.all() and len(mine) == (2 * scale - 1) ** 2


def test_window_grows_by_the_reach_and_stays_in_the_picture() -> None:
    window = Box(0, 10, 10, 10).widened(0.26, 40, 40)
    assert (window.height, window.width) == (16, 16)
    assert window.top == 0 and window.left <= 7 and window.left + window.width >= 23


def test_even_grid_spends_its_steps_and_reports_them() -> None:
    model, calls = Dabs(), []
    painting = paint_grid(model, _quarters(), 2, 3, calls.append)
    assert calls[-1] == 3 * 2 * (1 + 4) == Plan(divide=2, steps=3).total(model)
    assert _error(painting.snapshots[30][0], _quarters()) < 1e-10


def test_strokes_are_not_cut_at_tile_edges() -> None:
    target = np.ones((3, 32, 32), np.float32)
    target[:, 16:, 16:] = 0.5
    painting = paint_grid(Dabs(overhang=0.25), target, 2, 1)
    rows = {tuple(frame) for frame in painting.strokes[0].frames}
    assert (0.0, 0.0, 0.5, 0.5) in rows or (0.5, 0.5, 0.5, 0.5) in rows
    small, cut = Dabs(overhang=0.25), Dabs(overhang=0.0)
    painted = [next(iter(paint_grid(model, target, 2, 1).snapshots.values())) for model in (small, cut)]
    assert not np.array_equal(*painted)


@pytest.fixture(scope="module")
def trained(chain: Path) -> OnnxPainter:
    return OnnxPainter(chain / "exports/actor.onnx", "cpu", threads=1)


def _photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours with an edge: [3, height, width] in [0, 1]."""
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    picture = np.stack([rows, columns, (rows + columns > 1).astype(float)])
    return picture.astype(np.float32)


def test_strokes_redrawn_at_the_painted_size_are_the_painting(trained: OnnxPainter) -> None:
    target = _photograph(40, 56)
    painting = paint_by_error(trained, target[None], [60])
    *_, redrawn = draw_strokes(trained, painting.strokes[0], 40, 56)
    np.testing.assert_allclose(redrawn, painting.snapshots[60][0], atol=1e-4)


def test_strokes_at_four_times_the_size_are_the_same_picture_with_finer_edges(trained: OnnxPainter) -> None:
    target = _photograph(48, 64)
    painting = paint_by_error(trained, target[None], [40])
    *_, large = draw_strokes(trained, painting.strokes[0], 192, 256)
    shrunk = large.reshape(3, 48, 4, 64, 4).mean((2, 4))
    assert np.abs(shrunk - painting.snapshots[40][0]).mean() < 0.01


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (97, 61)])
def test_any_size_is_painted_at_its_own_size(trained: OnnxPainter, height: int, width: int) -> None:
    canvas, _ = paint_picture(trained, _photograph(height, width), Plan(strokes=20))
    assert canvas.shape == (3, height, width) and np.isfinite(canvas).all() and 0 <= canvas.min() <= canvas.max() <= 1


def test_large_picture_is_judged_small_and_drawn_large(trained: OnnxPainter) -> None:
    target = _photograph(1100, 1400)
    canvas, strokes = paint_picture(trained, target, Plan(strokes=12))
    assert canvas.shape == target.shape and len(strokes) == 12
    assert _error(canvas, target) < _error(np.zeros_like(target), target)


def test_longest_side_scales_the_painting(trained: OnnxPainter) -> None:
    canvas, _ = paint_picture(trained, _photograph(30, 60), Plan(strokes=8), longest=100)
    assert canvas.shape == (3, 50, 100)
    assert scaled(1, 5000, 16) == (1, 16)


def test_resize_averages_down_and_keeps_flat_pictures_flat() -> None:
    picture = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_allclose(resize(picture, 2, 2)[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    flat = np.full((1, 3, 7, 5), 0.3, np.float32)
    for size in ((3, 2), (14, 20), (7, 5)):
        np.testing.assert_allclose(resize(flat, *size), 0.3, atol=1e-6)


def test_drawing_stroke_by_stroke_paints_what_drawing_together_does(monkeypatch: pytest.MonkeyPatch) -> None:
    target = np.random.default_rng(3).random((2, 3, 32, 32), np.float32)
    paintings = []
    for limit in (1, 10**9):
        monkeypatch.setattr("lpaint.painting.painter._LARGE_WINDOW", limit)
        paintings.append(paint_by_error(Dabs(overhang=0.2), target, [5, 30]))
    for each, together in zip(paintings[0].strokes, paintings[1].strokes, strict=True):
        np.testing.assert_array_equal(each.frames, together.frames)
    for budget in (5, 30):
        np.testing.assert_allclose(paintings[0].snapshots[budget], paintings[1].snapshots[budget], atol=1e-6)


class _Wrong(Dabs):
    """Dabs whose colours are all grey."""

    def act(self, canvas: np.ndarray, target: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        strokes = super().act(canvas, target, fraction)
        strokes[:, :, 10:] = 0.5
        return strokes


@pytest.mark.parametrize("limit", [1, 1 << 14])
def test_a_fitted_colour_is_the_shapes_best(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpaint.painting.painter._LARGE_WINDOW", limit)
    model = _Wrong()
    model.fitted = True
    painting = paint_by_error(model, _quarters()[None], [2, 100])
    np.testing.assert_allclose(painting.snapshots[2][0, :, :16], 0.3, atol=1e-3)
    assert _error(painting.snapshots[100][0], _quarters()) < 1e-4
    *_, drawn = draw_strokes(model, painting.strokes[0], 32, 48)
    np.testing.assert_allclose(drawn, painting.snapshots[100][0], atol=1e-5)


@pytest.mark.parametrize("ground", ["white", "mean"])
def test_a_painting_starts_from_the_models_ground(ground: str) -> None:
    model = Dabs()
    model.start = ground
    target = np.random.default_rng(3).random((2, 3, 24, 24), np.float32)
    painting = paint_by_error(model, target, [3])
    for b in range(2):
        bare, *_, drawn = (canvas.copy() for canvas in draw_strokes(model, painting.strokes[b], 24, 24))
        expected = np.ones(3) if ground == "white" else target[b].mean((1, 2))
        np.testing.assert_allclose(bare[:, 5, 7], expected, atol=1e-6)
        np.testing.assert_allclose(drawn, painting.snapshots[3][b], atol=1e-5)
