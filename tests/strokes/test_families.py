"""What every stroke family promises, asked of each that is registered; and each family's own geometry by hand."""

import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lpaint.agent.torch_model import load_actor
from lpaint.errors import ParamsError
from lpaint.export.onnx import export_outline, export_rasteriser, outline_parity, rasteriser_parity
from lpaint.painting.onnx_model import OnnxPainter
from lpaint.painting.picture import Plan, paint_picture
from lpaint.runtime.params import Stroke
from lpaint.strokes import StrokeFamily, exact_rasteriser, family_names, get_family, pixel_centres
from tests.helpers.tiny import run_chain

FAMILIES = [get_family(name) for name in family_names()]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=family_names())


def _random(family: StrokeFamily, count: int, seed: int = 0) -> Tensor:
    return family.sample(count, torch.Generator().manual_seed(seed))


def _draw(family: StrokeFamily, shape: Tensor, size: int) -> Tensor:
    rows, columns, pixel_size = (part.to(shape.dtype) for part in pixel_centres(len(shape), size))
    return family.rasterise(shape, rows, columns, pixel_size)


@every_family
def test_parameters_are_named_and_explained(family: StrokeFamily) -> None:
    names = [parameter.name for parameter in family.shape]
    assert len(set(names)) == len(names) == family.shape_parameters == family.parameters - 3
    assert all(len(parameter.meaning) > 5 for parameter in family.shape) and len(family.summary) > 5
    assert _random(family, 7).shape == (7, family.shape_parameters)


def test_params_accept_exactly_the_registered_families() -> None:
    assert sorted(get_args(Stroke.model_fields["family"].annotation)) == family_names()
    with pytest.raises(ParamsError, match=r"no family 'circel'; did you mean circle\?"):
        get_family("circel")


@every_family
def test_opacity_is_in_range_and_something_is_painted(family: StrokeFamily) -> None:
    alpha = _draw(family, _random(family, 200), 48)
    assert alpha.shape == (200, 48, 48) and torch.isfinite(alpha).all()
    assert alpha.min() >= 0 and alpha.max() <= 1
    assert (alpha.amax((1, 2)) > 0.05).float().mean() > 0.8


@every_family
def test_one_stroke_is_the_same_at_every_resolution(family: StrokeFamily) -> None:
    shape = _random(family, 60, seed=1)
    small, large = _draw(family, shape, 64), _draw(family, shape, 512)
    shrunk = F.avg_pool2d(large[:, None], 8)[:, 0]
    assert (small - shrunk).abs().mean() < 1e-3
    assert (small.mean((1, 2)) - shrunk.mean((1, 2))).abs().max() < 4e-3, "the amount of paint"


@every_family
@pytest.mark.parametrize("size", [16, 48, 50])
def test_drawing_only_touched_tiles_changes_nothing(family: StrokeFamily, size: int) -> None:
    shape = torch.cat([_random(family, 300, seed=2), _random(family, 60).round(), _degenerate(family)])
    drawn = exact_rasteriser(family, size, compiled=False)(shape)
    torch.testing.assert_close(drawn, _draw(family, shape, size), atol=1e-6, rtol=0)


@every_family
def test_gradient_goes_through_tiles(family: StrokeFamily) -> None:
    weights = torch.rand(32, 32, generator=torch.Generator().manual_seed(1))
    draw = exact_rasteriser(family, 32, compiled=False)
    gradients = []
    for rasterise in (draw, lambda shape: _draw(family, shape, 32)):
        shape = _random(family, 50).requires_grad_()
        gradients.append(torch.autograd.grad((rasterise(shape) * weights).sum(), shape)[0])
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


@every_family
def test_rasters_need_not_be_square_or_whole(family: StrokeFamily) -> None:
    shape = _random(family, 5)
    rows, columns, pixel_size = pixel_centres(5, 40)
    whole = family.rasterise(shape, rows, columns, pixel_size)
    part = family.rasterise(shape, rows[:, 10:25], columns[:, 3:37], pixel_size)
    torch.testing.assert_close(part, whole[:, 10:25, 3:37])


@every_family
def test_no_paint_beyond_the_bounds_and_none_beyond_the_reach(family: StrokeFamily) -> None:
    shape = torch.cat([_random(family, 150), _random(family, 50).round()])
    size = 64
    centres = ((torch.arange(2 * size) + 0.5) / size - 0.5).expand(len(shape), -1)
    alpha = family.rasterise(shape, centres, centres, torch.full((len(shape), 2), 1 / size))
    bounds = family.bounds(shape)
    assert bounds.shape == (len(shape), 4) and (bounds[:, :2] <= bounds[:, 2:]).all()
    assert bounds.min() >= -family.overhang - 1e-6 and bounds.max() <= 1 + family.overhang + 1e-6
    half = 0.75 / size
    top, left, bottom, right = (part[:, None] for part in bounds.unbind(1))
    outside_rows = (centres < top - half) | (centres > bottom + half)
    outside_columns = (centres < left - half) | (centres > right + half)
    assert (alpha * outside_rows[:, :, None]).max() == 0 and (alpha * outside_columns[:, None, :]).max() == 0


def _degenerate(family: StrokeFamily) -> Tensor:
    """Every corner of few parameters, equal points, and values a little out of range."""
    count = family.shape_parameters
    rows = [torch.full((count,), value) for value in (0.0, 0.5, 1.0, -0.2, 1.2)]
    rows += [torch.eye(count)[i] for i in range(count)] + [1 - torch.eye(count)[i] for i in range(count)]
    zero = torch.full((count,), 0.5)
    for i, parameter in enumerate(family.shape):
        if parameter.name[0] in "rhws":
            zero[i] = 0
    return torch.stack([*rows, zero])


@every_family
def test_degenerate_strokes_are_finite_in_value_and_gradient(family: StrokeFamily) -> None:
    shape = _degenerate(family).requires_grad_()
    alpha = _draw(family, shape, 32)
    alpha.sum().backward()
    assert torch.isfinite(alpha).all() and shape.grad is not None and torch.isfinite(shape.grad).all()


@every_family
def test_gradient_agrees_with_finite_differences(family: StrokeFamily) -> None:
    if family.name == "pixel":
        pytest.skip("snapping has no true gradient; its own test says what it passes")
    shape = (0.1 + 0.8 * _random(family, 40, seed=4)).double()
    names = [parameter.name for parameter in family.shape]
    if "t1" in names:
        # The place of the last covering disc counts as constant, which shows only where opacity changes.
        shape[:, names.index("t1")] = shape[:, names.index("t0")]
    if "dryness" in names:
        shape[:, names.index("dryness")] = 0
    weights = torch.rand(24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def paint(values: Tensor) -> Tensor:
        return (_draw(family, values, 24) * weights).sum((1, 2))

    shape.requires_grad_()
    (gradient,) = torch.autograd.grad(paint(shape).sum(), shape)
    step = 1e-5
    for i in range(family.shape_parameters):
        moved = torch.zeros_like(shape)
        moved[:, i] = step
        with torch.no_grad():
            numeric = (paint(shape + moved) - paint(shape - moved)) / (2 * step)
        difference = (gradient[:, i] - numeric).abs() / (1 + numeric.abs())
        # A kink within a step of some stroke is no fault, and curves are followed to a few thousandths.
        assert difference.quantile(0.9) < 5e-3, names[i]


@every_family
def test_exported_rasteriser_agrees_at_any_size(family: StrokeFamily, tmp_path: Path) -> None:
    path = tmp_path / "rasteriser.onnx"
    export_rasteriser(family, path, 20)
    for count, size in ((1, 16), (5, 33)):
        inputs = (_random(family, count, seed=9), *pixel_centres(count, size))
        assert rasteriser_parity(family, path, inputs) < 1e-4


@every_family
def test_exported_outline_agrees(family: StrokeFamily, tmp_path: Path) -> None:
    path = tmp_path / "outline.onnx"
    export_outline(family, path, 20)
    for count in (1, 5):
        assert outline_parity(family, path, _random(family, count, seed=9)) < 1e-4


@every_family
def test_outline_is_closed_and_finite_and_within_bounds(family: StrokeFamily) -> None:
    shape = torch.cat([_degenerate(family).clamp(0, 1), _random(family, 100)])
    outline = family.outline(shape)
    assert all(torch.isfinite(part).all() for part in outline)
    # Each curve begins where the one before ends, and the first where the last ends.
    torch.testing.assert_close(outline.path[:, :, :, 0], outline.path[:, :, :, 3].roll(1, 2), atol=2e-4, rtol=0)
    bounds = family.bounds(shape)[:, None, None]
    drawn = outline.path[..., [0, 3], :]
    assert (drawn >= bounds[..., :2, None].transpose(-1, -2) - 2e-3).all()
    assert (drawn <= bounds[..., 2:, None].transpose(-1, -2) + 2e-3).all()
    offsets, opacity = outline.stops.unbind(-1)
    assert offsets.min() >= 0 and offsets.max() <= 1 + 1e-6 and (offsets.diff(dim=-1) >= 0).all()
    assert opacity.min() >= -1e-6 and opacity.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", [name for name in family_names() if name != "bezier"])
def test_whole_chain_runs_and_paints_with_the_family(name: str, tmp_path: Path) -> None:
    agent: dict[str, Any] = {"updates": 8, "validation": {"every": 8}, "checkpoint_every": 8}
    run_chain(tmp_path, tracked=False, stroke={"family": name}, agent=agent, evaluate={"timelapses": 0})
    _, spec = load_actor(tmp_path / "models/actor.safetensors")
    assert spec.family == name
    model = OnnxPainter(tmp_path / "exports/actor.onnx", "cpu", threads=1)
    assert model.metadata["stroke_parameters"] == str(get_family(name).parameters)
    picture = np.full((3, 30, 40), 0.7, np.float32)
    painted = paint_picture(model, picture, Plan(strokes=12))
    canvas = painted.canvas(model)
    assert canvas.shape == picture.shape and painted.strokes.values.shape[1] == get_family(name).parameters
    assert np.square(canvas - picture).mean() <= np.square(picture).mean()


def test_circle_covers_its_area() -> None:
    alpha = _draw(get_family("circle"), torch.tensor([[0.5, 0.5, 0.9, 1.0]]), 128)
    assert float(alpha.mean()) == pytest.approx(math.pi * 0.3**2, rel=1e-3)


def test_rectangle_turns_about_its_centre() -> None:
    family = get_family("rectangle")
    upright, quarter, slanted = _draw(
        family, torch.tensor([[0.5, 0.5, 0.8, 0.4, angle, 1.0] for angle in (0, 0.5, 0.25)]), 128
    )
    assert float(upright.mean()) == pytest.approx(0.4 * 0.2, rel=1e-3)
    torch.testing.assert_close(quarter, upright.T, atol=1e-4, rtol=0)
    assert float(slanted.mean()) == pytest.approx(0.4 * 0.2, rel=5e-3)
    # A quarter of half a turn leans the first side from the vertical towards the right.
    assert slanted[40, 40] < 0.1 < 0.9 < slanted[60, 60]


def test_triangle_covers_half_its_box_whatever_the_order_of_its_corners() -> None:
    family = get_family("triangle")
    corners = [[0.1, 0.1, 0.9, 0.1, 0.1, 0.9, 1.0], [0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 1.0]]
    first, second = _draw(family, torch.tensor(corners), 128)
    assert float(first.mean()) == pytest.approx(0.32, rel=5e-3)
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)
    flat = _draw(family, torch.tensor([[0.2, 0.2, 0.5, 0.5, 0.8, 0.8, 1.0]]), 128)
    assert flat.max() < 1e-3, "three points on a line paint nothing"


def test_tapered_line_is_the_hull_of_its_end_discs() -> None:
    family = get_family("line")
    shape = torch.tensor([[0.3, 0.3, 0.7, 0.7, 0.2, 1.0, 1.0]])
    size = 200
    alpha = _draw(family, shape, size)[0]
    centres = (np.arange(size) + 0.5) / size
    rows, columns = np.meshgrid(centres, centres, indexing="ij")
    extent = np.full((size, size), -np.inf)
    for t in np.linspace(0, 1, 801):
        radius = (0.2 + 0.8 * t) / 8 + 0.5 / 128
        extent = np.maximum(extent, radius - np.hypot(rows - 0.3 - 0.4 * t, columns - 0.3 - 0.4 * t))
    dense = np.clip(extent * size + 0.5, 0, 1)
    assert np.abs(alpha.numpy() - dense).max() < 0.02


def test_pixel_fills_whole_cells_of_its_grid() -> None:
    family = get_family("pixel")
    alpha = _draw(family, _random(family, 100), 16)
    assert ((alpha < 1e-5) | (alpha > 1 - 1e-5)).all()
    counts = alpha.sum((1, 2)).round().int()
    assert set(counts.tolist()) == {1, 4, 9, 16}
    corners = _draw(family, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), 16)
    assert (
        corners[0, 0, 0] == 1 and corners[1, 12:, 12:].min() > 0.999 and corners[1].sum() == pytest.approx(16, abs=1e-3)
    )


def test_pixel_passes_a_gradient_through_its_snapping() -> None:
    family = get_family("pixel")
    shape = torch.tensor([[0.4, 0.4, 0.5]], requires_grad=True)
    # Between two lines of the grid, so that each edge has a pixel that it crosses.
    alpha = _draw(family, shape, 24)
    ramp = torch.linspace(0, 1, 24)[:, None].expand(24, 24)
    (alpha[0] * ramp).sum().backward()
    assert shape.grad is not None and shape.grad[0, 0] > 0, "moving down must raise what is weighed downwards"


def test_dry_brush_leaves_gaps_and_an_even_one_is_the_bezier_stroke() -> None:
    brush, bezier = get_family("brush"), get_family("bezier")
    curve = _random(bezier, 20, seed=2)
    curve[:, 6:] = 1
    even, dry = (torch.cat([curve, torch.full((20, 1), value), torch.full((20, 1), 0.3)], 1) for value in (0.0, 1.0))
    torch.testing.assert_close(_draw(brush, even, 64), _draw(bezier, curve, 64))
    painted, thin = _draw(bezier, curve, 64), _draw(brush, dry, 64)
    assert (thin <= painted + 1e-6).all() and 0.25 < float(thin.sum() / painted.sum()) < 0.75
    assert float(thin[painted > 0.99].std()) > 0.15
