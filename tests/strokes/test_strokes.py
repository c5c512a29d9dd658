"""The exact stroke rasteriser against the published recipe, at other resolutions, at its edges, and its gradients."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lpaint.errors import ParamsError
from lpaint.painting.engine.colour import fit_colour as painting_fit
from lpaint.strokes import composite, family_names, fit_colour, get_family, pixel_centres

BEZIER = get_family("bezier")


def _stroke(
    start: tuple[float, float] = (0.5, 0.2),
    middle: tuple[float, float] = (0.5, 0.5),
    end: tuple[float, float] = (0.5, 0.8),
    radii: tuple[float, float] = (0.4, 0.4),
    opacities: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """One stroke [1, 10]; by default a straight opaque bar along the middle row."""
    return torch.tensor([[*start, *middle, *end, *radii, *opacities]])


def _draw(shape: Tensor, size: int) -> Tensor:
    return BEZIER.rasterise(shape, *pixel_centres(len(shape), size, shape.device))


def _random(count: int, seed: int = 0) -> Tensor:
    return BEZIER.sample(count, torch.Generator().manual_seed(seed))


def _published_recipe(shape: np.ndarray, width: int) -> np.ndarray:
    """100 filled circles on a canvas of twice the side, a later one overwriting, then shrunk by two."""
    x0, y0, x1, y1, x2, y2, r0, r1, t0, t1 = map(float, shape)
    x1, y1 = x0 + (x2 - x0) * x1, y0 + (y2 - y0) * y1
    side = 2 * width
    start, middle, end = (
        (int(x * (side - 1) + 0.5), int(y * (side - 1) + 0.5)) for x, y in ((x0, y0), (x1, y1), (x2, y2))
    )
    least, most = int(1 + r0 * width // 2), int(1 + r1 * width // 2)
    canvas = np.zeros((side, side))
    rows, columns = np.mgrid[:side, :side]
    for i in range(100):
        t = i / 100
        row, column = (
            int((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c) for a, b, c in zip(start, middle, end, strict=True)
        )
        z = int((1 - t) * least + t * most)
        near = np.s_[max(row - z, 0) : row + z + 1, max(column - z, 0) : column + z + 1]
        disc = (rows[near] - row) ** 2 + (columns[near] - column) ** 2 <= z * z
        canvas[near][disc] = (1 - t) * t0 + t * t1
    return canvas.reshape(width, 2, width, 2).mean((1, 3))


def test_strokes_agree_with_the_published_recipe() -> None:
    shape = _random(40)
    exact = _draw(shape, 128).numpy()
    recipe = np.stack([_published_recipe(one, 128) for one in shape.numpy()])
    difference = np.abs(exact - recipe).mean((1, 2))
    assert recipe.mean() > 0.02, "the recipe paints something"
    assert difference.mean() < 0.006
    assert difference.max() < 0.03


def test_x_is_the_row_and_the_radius_a_quarter_of_the_frame() -> None:
    alpha = _draw(_stroke(start=(0.25, 0.5), end=(0.25, 0.5), radii=(0.4, 0.4)), 256)[0]
    painted = alpha > 0.5
    rows, columns = torch.nonzero(painted.any(1)), torch.nonzero(painted.any(0))
    radius = 0.4 / 4 + 0.5 / 128
    assert (rows.float().mean() + 0.5) / 256 == pytest.approx(0.25, abs=1 / 256)
    assert (columns.float().mean() + 0.5) / 256 == pytest.approx(0.5, abs=1 / 256)
    assert alpha.sum().item() / 256**2 == pytest.approx(math.pi * radius**2, rel=5e-3)


def test_the_middle_point_is_relative_to_the_ends() -> None:
    # From (0.2, 0.2) to (0.8, 0.8) with P1 = (0.2 + 0.6 * 1, 0.2 + 0.6 * 0) the curve passes P(1/2) = (0.65, 0.35).
    alpha = _draw(_stroke(start=(0.2, 0.2), middle=(1.0, 0.0), end=(0.8, 0.8), radii=(0.0, 0.0)), 256)[0]
    assert alpha[int(0.65 * 256), int(0.35 * 256)] > 0.9
    assert alpha[int(0.35 * 256), int(0.65 * 256)] == 0
    assert alpha[128, 128] == 0


@pytest.mark.parametrize(("column", "last"), [(0.2, 0.173177), (0.5, 0.673177), (0.8, 1.0)])
def test_a_later_disc_overwrites_an_earlier_one(column: float, last: float) -> None:
    # A bar of length 0.6 and radius 0.1 + 0.5/128: the last disc over the middle line lies 0.10391 / 0.6 further on.
    centre, pixel_size = torch.tensor([[0.5]]), torch.full((1, 2), 1 / 256)
    alpha = BEZIER.rasterise(_stroke(opacities=(1.0, 0.2)), centre, torch.tensor([[column]]), pixel_size)
    assert alpha.item() == pytest.approx(1.0 - 0.8 * last, abs=2e-3)


@pytest.mark.parametrize("t", [0.0, 0.06, 0.3, 0.55, 0.9, 1.0])
def test_a_thin_stroke_has_the_opacity_of_the_place(t: float) -> None:
    # Its radius is 0.5/128, so the last disc over the middle line lies that much further along the length of 0.6.
    centre, pixel_size = torch.tensor([[0.5]]), torch.full((1, 2), 1 / 1024)
    stroke = _stroke(radii=(0.0, 0.0), opacities=(0.0, 1.0))
    alpha = BEZIER.rasterise(stroke, centre, torch.tensor([[0.2 + 0.6 * t]]), pixel_size)
    assert alpha.item() == pytest.approx(t, abs=0.01)


def test_a_stroke_is_the_same_at_every_resolution() -> None:
    shape = _random(32, seed=1)
    fine = _draw(shape, 256)
    shrunk = fine.view(len(shape), 64, 4, 64, 4).mean((2, 4))
    difference = (_draw(shape, 64) - shrunk).abs().mean((1, 2))
    assert difference.mean() < 1.5e-3
    assert difference.max() < 6e-3


def test_a_window_of_the_raster_is_a_part_of_the_whole() -> None:
    shape = _random(4, seed=2)
    rows, columns, pixel_size = pixel_centres(4, 32)
    window = BEZIER.rasterise(shape, rows[:, 5:20], columns[:, 8:], pixel_size)
    torch.testing.assert_close(window, _draw(shape, 32)[:, 5:20, 8:])


def test_opacity_stays_in_range_at_the_corners_of_the_parameters() -> None:
    corners = torch.randint(2, (256, 10), generator=torch.Generator().manual_seed(3)).float()
    alpha = _draw(torch.cat([corners, _random(64, seed=4)]), 24)
    assert alpha.min() >= 0 and alpha.max() <= 1
    assert alpha.max() > 0.9


def test_no_paint_lies_beyond_the_reach() -> None:
    generator = torch.Generator().manual_seed(5)
    shape = torch.cat([torch.randint(2, (256, 10), generator=generator).float(), _random(64, seed=6)])
    count, size = len(shape), 96
    centres = ((torch.arange(size) + 0.5) / size * 2 - 0.5).expand(count, size)
    pixel_size = torch.full((count, 2), 2 / size)
    alpha = BEZIER.rasterise(shape, centres, centres, pixel_size)
    # A pixel is beyond if its whole box is.
    beyond = (centres[0] - 0.5).abs() - 1 / size > 0.5 + BEZIER.overhang
    overhang = (centres[0] - 0.5).abs() > 0.5 + 0.2
    assert beyond.any()
    assert alpha[:, beyond].max() == 0 and alpha[:, :, beyond].max() == 0
    assert alpha[:, overhang].max() > 0.5, "strokes at the edge do overhang the frame"


def test_hairlines_fade_instead_of_breaking_up() -> None:
    alpha = _draw(_stroke(start=(0.52, 0.2), end=(0.52, 0.8), radii=(0.0, 0.0)), 16)[0]
    across = alpha.sum(0)[5:11]
    # The least diameter is 1/128 of the frame: an eighth of a pixel of sixteen.
    torch.testing.assert_close(across, torch.full_like(across, 0.125), atol=0.01, rtol=0)


DEGENERATE = {
    "one point": _stroke(start=(0.5, 0.5), end=(0.5, 0.5)),
    "one point on a pixel's centre, without radius": _stroke((17 / 32,) * 2, (0, 0), (17 / 32,) * 2, (0, 0)),
    "no height": _stroke(start=(0.5, 0.1), middle=(0.0, 0.0), end=(0.5, 0.9)),
    "middle at an end": _stroke(start=(0.1, 0.1), middle=(0.0, 0.0), end=(0.9, 0.9)),
    "no radius": _stroke(start=(0.1, 0.3), middle=(1.0, 0.0), end=(0.9, 0.8), radii=(0.0, 0.0)),
    "all zero": torch.zeros(1, 10),
    "all one": torch.ones(1, 10),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_strokes_are_finite_in_value_and_gradient(name: str) -> None:
    shape = DEGENERATE[name].clone().requires_grad_()
    alpha = _draw(shape, 16)
    (gradient,) = torch.autograd.grad(alpha.square().sum(), shape)
    assert torch.isfinite(alpha).all()
    assert torch.isfinite(gradient).all()


def test_every_parameter_has_a_gradient() -> None:
    shape = _random(32, seed=7).requires_grad_()
    (gradient,) = torch.autograd.grad((_draw(shape, 32) * torch.rand(32, 32)).sum(), shape)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs() > 1e-4).float().mean(0).min() > 0.9


def test_gradients_agree_with_finite_differences() -> None:
    # With one opacity along the stroke the last disc does not matter, and the gradient is meant to be exact.
    shape = torch.tensor(
        [
            [0.2, 0.3, 0.7, 0.2, 0.8, 0.7, 0.3, 0.7, 0.6, 0.6],
            [0.7, 0.2, 0.1, 0.9, 0.3, 0.9, 0.5, 0.2, 0.9, 0.9],
            [0.1, 0.9, 0.5, 0.4, 0.6, 0.1, 0.2, 0.4, 0.7, 0.7],
        ],
        dtype=torch.float64,
    )
    centres, _, pixel_size = (values.double() for values in pixel_centres(len(shape), 32))
    weights = torch.rand(32, 32, generator=torch.Generator().manual_seed(8), dtype=torch.float64)

    def summed(values: Tensor) -> Tensor:
        return (BEZIER.rasterise(values, centres, centres, pixel_size) * weights).sum((1, 2))

    (gradient,) = torch.autograd.grad(summed(shape.requires_grad_()).sum(), shape)
    for parameter in range(10):
        nudge = torch.zeros_like(shape)
        nudge[:, parameter] = 1e-6
        with torch.no_grad():
            slope = (summed(shape + nudge) - summed(shape - nudge)) / 2e-6
        torch.testing.assert_close(gradient[:, parameter], slope, rtol=0.01, atol=0.05)


def test_composite_lays_strokes_in_order() -> None:
    canvas = torch.full((1, 3, 1, 1), 0.2)
    alpha = torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)
    colour = torch.tensor([[[1.0, 0.0, 0.6], [0.0, 0.8, 1.0]]])
    painted = composite(canvas, alpha, colour).flatten().tolist()
    # (0.2 + 1) / 2 = 0.6 * 0.75 + 0; 0.1 * 0.75 + 0.2; 0.4 * 0.75 + 0.25
    assert painted == pytest.approx([0.45, 0.275, 0.55])
    assert canvas.unique().tolist() == pytest.approx([0.2]), "the input is left as it was"


def test_families_are_found_by_name() -> None:
    assert "bezier" in family_names()
    assert (BEZIER.shape_parameters, BEZIER.parameters) == (10, 13)
    with pytest.raises(ParamsError, match=r"'spiral'.*bezier"):
        get_family("spiral")


def test_samples_are_repeatable_and_cover_the_unit_cube() -> None:
    shape = _random(500, seed=9)
    assert shape.shape == (500, 10)
    assert shape.min() >= 0 and shape.max() <= 1
    assert (shape.amax(0) > 0.95).all() and (shape.amin(0) < 0.05).all()
    assert torch.equal(shape, _random(500, seed=9))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_gpu_draws_the_same_strokes() -> None:
    shape = _random(64, seed=10)
    torch.testing.assert_close(_draw(shape.cuda(), 64).cpu(), _draw(shape, 64), atol=2e-3, rtol=0)


def test_bounds_hold_all_paint_and_are_tight() -> None:
    family = get_family("bezier")
    shape = family.sample(200, torch.Generator().manual_seed(3))
    shape[:, 8:10] = 1
    size = 256
    centres = (torch.arange(2 * size) + 0.5) / size - 0.5
    rows = centres.expand(len(shape), -1)
    alpha = family.rasterise(shape, rows, rows, torch.full((len(shape), 2), 1 / size))
    top, left, bottom, right = family.bounds(shape).unbind(1)
    for low, high, covered in ((top, bottom, alpha.amax(2) > 0), (left, right, alpha.amax(1) > 0)):
        first = torch.stack([centres[line].min() for line in covered])
        last = torch.stack([centres[line].max() for line in covered])
        half = 0.5 / size
        assert (first >= low - 2 * half).all() and (last <= high + 2 * half).all()
        # The disc with the larger radius need not be the outermost, so only most boxes are tight.
        assert ((first - low < 4 * half) | (high - last < 4 * half)).float().mean() > 0.6


def test_no_pixel_differs_much_from_a_dense_row_of_discs() -> None:
    family = get_family("bezier_opaque")
    shape = family.sample(300, torch.Generator().manual_seed(2**40))
    size = 48
    rows, columns, pixel_size = pixel_centres(len(shape), size)
    x0, y0, x1, y1, x2, y2, r0, r1 = (part[:, None, None] for part in shape.unbind(1))
    margin = torch.full((len(shape), size, size), -torch.inf)
    for t in torch.linspace(0, 1, 301):
        row = (1 - t) ** 2 * x0 + 2 * t * (1 - t) * (x0 + (x2 - x0) * x1) + t * t * x2
        column = (1 - t) ** 2 * y0 + 2 * t * (1 - t) * (y0 + (y2 - y0) * y1) + t * t * y2
        radius = (r0 + (r1 - r0) * t) / 4 + 0.5 / 128
        margin = torch.maximum(margin, radius - torch.hypot(rows[:, :, None] - row, columns[:, None, :] - column))
    dense = (margin * size + 0.5).clamp(0, 1)
    # A single wrong pixel would be a speck in the painting.
    assert (family.rasterise(shape, rows, columns, pixel_size) - dense).abs().max() < 0.15


def test_the_fitted_colour_is_the_least_squares_one() -> None:
    generator = torch.Generator().manual_seed(0)
    canvas, target = torch.rand(2, 4, 3, 8, 8, generator=generator)
    alpha = torch.rand(4, 8, 8, generator=generator)
    wish = torch.rand(4, 3, generator=generator)
    colour = fit_colour(canvas, alpha, wish, target)
    for b in range(4):
        for channel in range(3):
            rest = (target[b, channel] - canvas[b, channel] * (1 - alpha[b])).flatten()
            system = torch.cat([alpha[b].flatten(), torch.ones(1)])[:, None]
            best = torch.linalg.lstsq(system, torch.cat([rest, wish[b, channel : channel + 1]])[:, None]).solution
            assert colour[b, channel].item() == pytest.approx(best.clamp(0, 1).item(), abs=1e-4)
        ours = [value.numpy() for value in (canvas[b], alpha[b : b + 1], wish[b : b + 1], target[b])]
        np.testing.assert_allclose(painting_fit(*ours)[0], colour[b].numpy(), atol=1e-5)


def test_where_nothing_is_painted_the_wish_decides() -> None:
    wish = torch.tensor([[0.1, 0.6, 0.9]])
    colour = fit_colour(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), wish, torch.ones(1, 3, 4, 4))
    torch.testing.assert_close(colour, wish)
