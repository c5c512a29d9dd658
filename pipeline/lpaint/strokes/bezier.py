"""The quadratic Bézier stroke of Huang et al. 2019 (arXiv 1903.04411, section 3.3), drawn exactly.

A shape is ten parameters in [0, 1]: x0 y0 x1 y1 x2 y2 r0 r1 t0 t1.

- (x0, y0) and (x2, y2) are the ends; x is the row and y the column, as shares of the frame's side.
- (x1, y1) puts the middle control point *between* the ends: P1 = P0 + (P2 - P0) * (x1, y1), component by component. So
  for all parameters both coordinates are monotone along the curve.
- The radius changes linearly from r0 / 4 to r1 / 4, plus half a pixel of a 128-pixel canvas.
- The opacity changes linearly from t0 to t1; 1 covers. The paper calls it "transparency".
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lpaint.strokes.edges import as_maps, band, length, pixel_side
from lpaint.strokes.family import Parameter, StrokeFamily
from lpaint.strokes.outline import Outline, arc, smooth_curve, uniform_outline

_SAMPLES = 8
_NEWTON_STEPS = 2
# Half a pixel of the paper's 128-pixel canvas. Relative to the frame, so that it does not depend on the raster.
LEAST_RADIUS = 0.5 / 128
# Bézier curves of an outline: along a side, and around an end.
_SIDE = 8
_CAP = 3
# Points along a curve at which the outline gives the opacity.
OPACITY_STOPS = 6


class Bezier(StrokeFamily):
    """Quadratic curve with linear radius and opacity; the module's docstring explains its parameters.

    The 2019 code draws 100 filled circles along the curve on a canvas of twice the size, where later circles
    *overwrite* earlier ones, and shrinks it by two. This class is the limit for infinitely many circles and pixels:

    - Coverage of a pixel depends on the disc that extends furthest over it: max over t of radius(t) - |p - P(t)|.
    - Its opacity is that of the *last* disc that covers it.

    Intended differences from the 2019 code:

    - Coverage of an edge pixel is the overlap of a pixel-wide box with the stroke's cross-section, so that hairlines
      fade and do not break up.
    - The least radius is a share of the frame, not half a pixel of the raster, so that a stroke is the same at every
      resolution.
    - There are no scallops between circles.

    No gradient flows through the position of the last covering disc. If pixels are not square in frame coordinates,
    the edge is as soft as for a square pixel of the same area.
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
    overhang = 0.26

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        trace = trace_curve(shape, rows, columns)
        t0, t1 = as_maps(shape[:, 8:10])
        return band(trace.distance, trace.radius, pixel_side(pixel_size)) * (t0 + (t1 - t0) * trace.last)

    def bounds(self, shape: Tensor) -> Tensor:
        return curve_bounds(shape)

    def outline(self, shape: Tensor) -> Outline:
        """See ``StrokeFamily.outline``; the opacity is approximated, see ``opacity_stops``."""
        axis, offsets = opacity_stops(shape)
        t0, t1 = shape[:, 8:9], shape[:, 9:10]
        opacity = t0 + (t1 - t0) * torch.linspace(0, 1, OPACITY_STOPS, device=shape.device)
        return Outline(curve_outline(shape)[:, None], axis[:, None], torch.stack([offsets, opacity], -1)[:, None])


class OpaqueBezier(StrokeFamily):
    """The same curve, fully opaque."""

    name = "bezier_opaque"
    summary = "quadratic curve without transparency"
    shape = Bezier.shape[:8]
    overhang = Bezier.overhang

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        trace = trace_curve(shape, rows, columns)
        return band(trace.distance, trace.radius, pixel_side(pixel_size))

    def bounds(self, shape: Tensor) -> Tensor:
        return curve_bounds(shape)

    def outline(self, shape: Tensor) -> Outline:
        return uniform_outline(curve_outline(shape), torch.ones_like(shape[:, 0]))


@dataclass(frozen=True)
class Trace:
    """The discs of a curve that matter for each pixel, as maps [N, H, W].

    Attributes:
        nearest: curve parameter of the disc that extends furthest over the pixel.
        last: curve parameter of the last disc that covers the pixel.
        du, dv, distance: from the pixel to the centre of the nearest disc: rows, columns and length.
        radius: radius of the nearest disc.
    """

    nearest: Tensor
    last: Tensor
    du: Tensor
    dv: Tensor
    distance: Tensor
    radius: Tensor


def trace_curve(shape: Tensor, rows: Tensor, columns: Tensor) -> Trace:
    """Trace curves [N, 8 or more], x0 y0 x1 y1 x2 y2 r0 r1, for the pixels at ``rows`` [N, H], ``columns`` [N, W]."""
    x0, y0, x1, y1, x2, y2, r0, r1 = as_maps(shape[:, :8])
    # P(t) = (a t + b) t + c, radius(t) = radius + widening * t.
    row = _quadratic(x0, x0 + (x2 - x0) * x1, x2)
    column = _quadratic(y0, y0 + (y2 - y0) * y1, y2)
    radius, widening = r0 / 4 + LEAST_RADIUS, (r1 - r0) / 4
    u, v = rows[:, :, None], columns[:, None, :]
    with torch.no_grad():
        nearest, last = _search(row, column, radius, widening, u, v)
    # At the nearest disc the derivative by t is zero or t is clamped, so a constant t gives the right gradient.
    du = (row[0] * nearest + row[1]) * nearest + (row[2] - u)
    dv = (column[0] * nearest + column[1]) * nearest + (column[2] - v)
    return Trace(nearest, last, du, dv, length(du, dv), radius + widening * nearest)


def curve_bounds(shape: Tensor) -> Tensor:
    """Bounding boxes [N, 4] of curves [N, 8 or more].

    The middle control point is between the ends, so each coordinate is monotone along the curve and its extremes are at
    the ends.
    """
    ends = torch.stack([shape[:, 0:2], shape[:, 4:6]])
    radius = shape[:, 6:8].amax(1, keepdim=True) / 4 + LEAST_RADIUS
    return torch.cat([ends.amin(0) - radius, ends.amax(0) + radius], 1)


@dataclass(frozen=True)
class Sweep:
    """Discs at K points of a curve, and the points where the outline of all discs touches them.

    The outline touches a disc at centre + radius * (ahead +- aside). If the radius grows along the curve, these points
    are behind the centre.

    Attributes:
        centre: [N, K, 2].
        radius: [N, K].
        direction: [N, K, 2], unit vector along the curve.
        ahead: [N, K, 2], along the direction; ahead + aside has length one.
        aside: [N, K, 2], across the direction.
        lean: [N, K], the angle between ahead + aside and the direction, 0..pi.
    """

    centre: Tensor
    radius: Tensor
    direction: Tensor
    ahead: Tensor
    aside: Tensor
    lean: Tensor


def sweep(shape: Tensor, places: Tensor) -> Sweep:
    """The discs of curves [N, 8 or more] at the parameters ``places`` [K] in [0, 1]."""
    start, middle, end = shape[:, None, 0:2], shape[:, None, 2:4], shape[:, None, 4:6]
    middle = start + (end - start) * middle
    t = places[:, None]
    centre = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t * t * end
    widening = (shape[:, 7:8] - shape[:, 6:7]) / 4
    radius = shape[:, 6:7] / 4 + LEAST_RADIUS + widening * places
    # At an end the velocity is zero if the middle control point is there. A little further in it is not.
    t = t.clamp(1e-3, 1 - 1e-3)
    velocity = 2 * (1 - t) * (middle - start) + 2 * t * (end - middle)
    speed = velocity.square().sum(-1).sqrt()
    still = (speed < 1e-6)[..., None]
    direction = torch.where(still, torch.eye(2, device=shape.device)[0], velocity / speed.clamp(min=1e-6)[..., None])
    lean = torch.acos((-widening / speed.clamp(min=1e-6)).clamp(-1, 1))
    across = torch.stack([-direction[..., 1], direction[..., 0]], -1)
    return Sweep(
        centre, radius, direction, torch.cos(lean)[..., None] * direction, torch.sin(lean)[..., None] * across, lean
    )


def curve_outline(shape: Tensor) -> Tensor:
    """Closed chains [N, S, 4, 2] around curves [N, 8 or more]: one side, the far end, the other side, the near end.

    Where a curve bends more tightly than its radius the inner side crosses itself. The SVG fill rule ``nonzero`` fills
    that too.
    """
    at = sweep(shape, torch.linspace(0, 1, _SIDE + 1, device=shape.device))
    left, right = (at.centre + at.radius[..., None] * (at.ahead + side * at.aside) for side in (1, -1))
    far = arc(at.centre[:, -1], at.radius[:, -1], (at.ahead + at.aside)[:, -1], -2 * at.lean[:, -1], _CAP)
    turn = -2 * (math.pi - at.lean[:, 0])
    near = arc(at.centre[:, 0], at.radius[:, 0], (at.ahead - at.aside)[:, 0], turn, _CAP)
    return torch.cat([smooth_curve(left), far, smooth_curve(right.flip(1)), near], 1)


def opacity_stops(shape: Tensor) -> tuple[Tensor, Tensor]:
    """Axis [N, 2, 2] and offsets on it [N, OPACITY_STOPS] of evenly spaced opacities from t0 to t1.

    The opacity of a point is that of the last disc over it, whose rear edge passes through the point. Vector formats
    have opacity gradients along straight axes only. So the rear edge, an arc, is replaced by its mean position, pi / 4
    of the radius behind the centre, projected on the line between the ends. The curve is near that line because its
    control point is between the ends.
    """
    at = sweep(shape, torch.linspace(0, 1, OPACITY_STOPS, device=shape.device))
    start, chord = shape[:, 0:2], shape[:, 4:6] - shape[:, 0:2]
    rear = at.centre - math.pi / 4 * at.radius[..., None] * at.direction
    square = chord.square().sum(1, keepdim=True).clamp(min=1e-8)
    along = ((rear - start[:, None]) * chord[:, None]).sum(-1) / square
    # Where the radius grows faster than the disc moves, the rear edge moves back. Offsets must not decrease.
    run = [along[:, 0]]
    for i in range(1, OPACITY_STOPS):
        run.append(torch.maximum(run[-1], along[:, i]))
    along = torch.stack(run, 1)
    low, high = along[:, :1], along[:, -1:]
    axis = torch.stack([start + low * chord, start + high * chord], 1)
    return axis, (along - low) / (high - low).clamp(min=1e-6)


Quadratic = tuple[Tensor, Tensor, Tensor]


def _quadratic(start: Tensor, middle: Tensor, end: Tensor) -> Quadratic:
    return start - 2 * middle + end, 2 * (middle - start), start


def _search(
    row: Quadratic, column: Quadratic, radius: Tensor, widening: Tensor, u: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Curve parameters, for each pixel, of the disc that extends furthest over it and of the last that covers it.

    A few evenly spaced discs bracket both. Newton's method refines the first and one secant step the second.
    """
    nearest = margin = before = sample = covered = uncovered = torch.zeros(1, device=u.device, dtype=u.dtype)
    for i in range(_SAMPLES + 1):
        t = i / _SAMPLES
        du = u - ((row[0] * t + row[1]) * t + row[2])
        dv = v - ((column[0] * t + column[1]) * t + column[2])
        inside = (radius + widening * t) - torch.sqrt(du * du + dv * dv)
        if i == 0:
            margin, nearest, sample = inside, torch.zeros_like(inside), torch.zeros_like(inside)
            covered, uncovered = torch.zeros_like(inside), torch.full_like(inside, -1.0)
        else:
            nearest = torch.where(inside > margin, t, nearest)
            margin = torch.maximum(inside, margin)
            leaves = (before >= 0) & (inside < 0)
            sample = torch.where(leaves, i - 1.0, sample)
            covered = torch.where(leaves, before, covered)
            uncovered = torch.where(leaves, inside, uncovered)
        before = inside
    # One secant step between the last sample that covers the pixel and the next. Divisions are slow.
    last = torch.where(before >= 0, 1.0, (sample + covered / (covered - uncovered)) / _SAMPLES)
    # The maximum is within one sample's spacing; a longer step is the result of a curvature near zero.
    low, high = (nearest - 1 / _SAMPLES).clamp(min=0), (nearest + 1 / _SAMPLES).clamp(max=1)
    for _ in range(_NEWTON_STEPS):
        step = _newton_step(nearest, row, column, widening, u, v)
        nearest = torch.minimum(torch.maximum(nearest - step, low), high)
    # Between two samples a thin stroke may cover a pixel that no sample covers; then last = nearest.
    return nearest, torch.where(margin < 0, nearest, last)


def _newton_step(t: Tensor, row: Quadratic, column: Quadratic, widening: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The Newton step to subtract from ``t``, towards the stationary point of |p - P(t)| - radius(t)."""
    du = (row[0] * t + row[1]) * t + (row[2] - u)
    dv = (column[0] * t + column[1]) * t + (column[2] - v)
    speed_u, speed_v = 2 * row[0] * t + row[1], 2 * column[0] * t + column[1]
    distance = torch.sqrt(du * du + dv * dv + 1e-12)
    along = du * speed_u + dv * speed_v
    slope = along - widening * distance
    curvature = speed_u * speed_u + speed_v * speed_v + 2 * (row[0] * du + column[0] * dv) - widening * along / distance
    return torch.where(curvature > 1e-6, slope / curvature.clamp(min=1e-6), 0.0)
