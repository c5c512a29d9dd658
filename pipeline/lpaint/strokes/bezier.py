"""The quadratic Bézier stroke of Huang et al. 2019 (arXiv 1903.04411, section 3.3), drawn exactly.

Ten numbers of shape, each in [0, 1]: x0 y0 x1 y1 x2 y2 r0 r1 t0 t1.

- (x0, y0) and (x2, y2) are the ends; x is the row, y the column, in sides of the frame.
- (x1, y1) places the middle control point *between* the ends, P1 = P0 + (P2 - P0) * (x1, y1) component by component,
  so that any ten numbers make a tame curve.
- The radius runs linearly from r0 / 4 to r1 / 4, plus half a pixel of a 128-pixel canvas.
- The "transparency" of the paper runs linearly from t0 to t1 and is an opacity: 1 covers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lpaint.strokes.edges import as_maps, band, length, pixel_side
from lpaint.strokes.family import Parameter, StrokeFamily

_SAMPLES = 8
_NEWTON_STEPS = 2
# Half a pixel of the paper's 128-pixel canvas. A fraction of the frame, not of the raster: a stroke has one size.
_LEAST_RADIUS = 0.5 / 128


class Bezier(StrokeFamily):
    """Quadratic curve with linear radius and opacity; see the module's text for its parameters.

    The 2019 code draws 100 filled circles along the curve on a double-size canvas, a later one *overwriting* an
    earlier one, and shrinks by two. This is the limit of that recipe for ever more circles and ever more pixels:

    - A pixel is covered as far as the disc nearest to it reaches: max over t of radius(t) - |p - P(t)|.
    - Its opacity is that of the *last* disc that covers it.

    Intended deviations from the recipe: coverage of an edge pixel is the overlap of a pixel-wide box with the stroke's
    cross-section, so that hairlines fade instead of breaking up; the least radius is a fraction of the canvas instead
    of half a pixel of whatever raster is drawn, so that a stroke is the same at every resolution; there are no
    scallops between circles. In the gradient, the position of the last covering disc counts as constant. On rasters
    whose pixels are not square in frame coordinates the edge is as soft as a square pixel of the same area makes it.
    """

    name = "bezier"
    summary = "quadratic curve whose radius and opacity run from one end to the other"
    shape = (
        Parameter("x0", "row of the start, 0 = top"),
        Parameter("y0", "column of the start, 0 = left"),
        Parameter("x1", "row of the middle control point, from the start's to the end's"),
        Parameter("y1", "column of the middle control point, from the start's to the end's"),
        Parameter("x2", "row of the end"),
        Parameter("y2", "column of the end"),
        Parameter("r0", "radius at the start, 1 = a quarter of the frame"),
        Parameter("r1", "radius at the end"),
        Parameter("t0", "opacity at the start, 1 = covers"),
        Parameter("t1", "opacity at the end"),
    )
    reach = 0.26

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pitch: Tensor) -> Tensor:
        """See ``StrokeFamily.rasterise``."""
        trace = follow(shape, rows, columns)
        t0, t1 = as_maps(shape[:, 8:10])
        return band(trace.distance, trace.radius, pixel_side(pitch)) * (t0 + (t1 - t0) * trace.last)

    def bounds(self, shape: Tensor) -> Tensor:
        """See ``StrokeFamily.bounds``."""
        return curve_bounds(shape)


class OpaqueBezier(StrokeFamily):
    """The same curve without transparency: what it covers, it covers wholly."""

    name = "bezier_opaque"
    summary = "quadratic curve without transparency"
    shape = Bezier.shape[:8]
    reach = Bezier.reach

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pitch: Tensor) -> Tensor:
        """See ``StrokeFamily.rasterise``."""
        trace = follow(shape, rows, columns)
        return band(trace.distance, trace.radius, pixel_side(pitch))

    def bounds(self, shape: Tensor) -> Tensor:
        """See ``StrokeFamily.bounds``."""
        return curve_bounds(shape)


@dataclass(frozen=True)
class Trace:
    """Every pixel's view of a curve, maps [N, H, W].

    ``nearest`` and ``last``: curve parameters of the disc that reaches furthest over the pixel, and of the last one
    that covers it; ``du``, ``dv`` and ``distance``: from the pixel to the former's centre; ``radius``: the former's.
    """

    nearest: Tensor
    last: Tensor
    du: Tensor
    dv: Tensor
    distance: Tensor
    radius: Tensor


def follow(shape: Tensor, rows: Tensor, columns: Tensor) -> Trace:
    """Trace curves [N, 8 or more], x0 y0 x1 y1 x2 y2 r0 r1, from the pixels at ``rows`` [N, H], ``columns`` [N, W]."""
    x0, y0, x1, y1, x2, y2, r0, r1 = as_maps(shape[:, :8])
    # P(t) = (a t + b) t + c, radius(t) = radius + widening * t.
    row = _quadratic(x0, x0 + (x2 - x0) * x1, x2)
    column = _quadratic(y0, y0 + (y2 - y0) * y1, y2)
    radius, widening = r0 / 4 + _LEAST_RADIUS, (r1 - r0) / 4
    u, v = rows[:, :, None], columns[:, None, :]
    with torch.no_grad():
        nearest, last = _search(row, column, radius, widening, u, v)
    # At the nearest disc the derivative in t is zero (or t is clamped), so holding t fixed loses no gradient.
    du = (row[0] * nearest + row[1]) * nearest + (row[2] - u)
    dv = (column[0] * nearest + column[1]) * nearest + (column[2] - v)
    return Trace(nearest, last, du, dv, length(du, dv), radius + widening * nearest)


def curve_bounds(shape: Tensor) -> Tensor:
    """Boxes [N, 4] of curves [N, 8 or more].

    The middle control point lies between the ends, so each coordinate is monotone along the curve and the ends are its
    extremes.
    """
    ends = torch.stack([shape[:, 0:2], shape[:, 4:6]])
    radius = shape[:, 6:8].amax(1, keepdim=True) / 4 + _LEAST_RADIUS
    return torch.cat([ends.amin(0) - radius, ends.amax(0) + radius], 1)


Quadratic = tuple[Tensor, Tensor, Tensor]


def _quadratic(start: Tensor, middle: Tensor, end: Tensor) -> Quadratic:
    return start - 2 * middle + end, 2 * (middle - start), start


def _search(
    row: Quadratic, column: Quadratic, radius: Tensor, widening: Tensor, u: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Curve parameters, per pixel, of the disc that reaches furthest and of the last disc that covers it.

    A few evenly spaced discs bracket both; Newton's method and one secant step refine them.
    """
    nearest = last = margin = before = torch.zeros(1, device=u.device, dtype=u.dtype)
    for i in range(_SAMPLES + 1):
        t = i / _SAMPLES
        du = u - ((row[0] * t + row[1]) * t + row[2])
        dv = v - ((column[0] * t + column[1]) * t + column[2])
        inside = (radius + widening * t) - torch.sqrt(du * du + dv * dv)
        if i == 0:
            margin, nearest, last = inside, torch.zeros_like(inside), torch.zeros_like(inside)
        else:
            nearest = torch.where(inside > margin, t, nearest)
            margin = torch.maximum(inside, margin)
            leaves = (before >= 0) & (inside < 0)
            crossing = (i - 1) / _SAMPLES + before / (before - inside) / _SAMPLES
            last = torch.where(leaves, crossing, last)
        before = inside
    last = torch.where(before >= 0, 1.0, last)
    # The furthest reach lies within a sample's spacing; a step beyond it comes of a curvature near zero.
    low, high = (nearest - 1 / _SAMPLES).clamp(min=0), (nearest + 1 / _SAMPLES).clamp(max=1)
    for _ in range(_NEWTON_STEPS):
        step = _newton_step(nearest, row, column, widening, u, v)
        nearest = torch.minimum(torch.maximum(nearest - step, low), high)
    # Between two samples a thin stroke may cover a pixel that no sample covers; then the nearest disc is the last.
    return nearest, torch.where(margin < 0, nearest, last)


def _newton_step(t: Tensor, row: Quadratic, column: Quadratic, widening: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Newton's step to subtract from ``t``, towards the stationary point of |p - P(t)| - radius(t)."""
    du = (row[0] * t + row[1]) * t + (row[2] - u)
    dv = (column[0] * t + column[1]) * t + (column[2] - v)
    speed_u, speed_v = 2 * row[0] * t + row[1], 2 * column[0] * t + column[1]
    distance = torch.sqrt(du * du + dv * dv + 1e-12)
    along = du * speed_u + dv * speed_v
    slope = along - widening * distance
    curvature = speed_u * speed_u + speed_v * speed_v + 2 * (row[0] * du + column[0] * dv) - widening * along / distance
    return torch.where(curvature > 1e-6, slope / curvature.clamp(min=1e-6), 0.0)
