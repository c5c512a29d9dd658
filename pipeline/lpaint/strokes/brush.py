"""A bristly brush: a Bézier stroke with a procedural texture along its curve."""

import math

import torch
from torch import Tensor

from lpaint.strokes.bezier import OPACITY_STOPS, Bezier, Trace, curve_bounds, opacity_stops, sweep, trace_curve
from lpaint.strokes.edges import as_maps, band, pixel_side
from lpaint.strokes.family import Parameter, StrokeFamily
from lpaint.strokes.outline import Outline, polyline, smooth_curve

# Waves across the brush: periods from edge to edge, weight, phase for a unit of ``seed``, drift along the curve.
_BRISTLES = ((2.0, 0.3, 3.0, 0.6), (5.0, 0.4, 7.0, -1.1), (11.0, 0.3, 13.0, 1.7))

# The outline: ribbons across the brush, and Bézier curves along each side of a ribbon.
_RIBBONS = 12
_SIDE = 4


class Brush(StrokeFamily):
    """A Bézier stroke with less paint between bristles that follow the curve.

    The texture is a sum of waves across the brush that drift along it. It depends on the position in the stroke, not on
    the raster. Waves too fine for the raster are averaged out, by the sinc of their periods in a pixel, so that strokes
    are the same at every resolution. In the gradient the position along the curve is a constant.
    """

    name = "brush"
    summary = "quadratic curve with bristles that follow it"
    shape = (
        *Bezier.shape,
        Parameter("dryness", "how thin the paint is between bristles, 0 = even, 1 = bare"),
        Parameter("seed", "which bristles"),
    )
    overhang = Bezier.overhang

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        trace = trace_curve(shape, rows, columns)
        t0, t1, dryness, seed = as_maps(shape[:, 8:12])
        pixel = pixel_side(pixel_size)
        paint = 1 - dryness * (0.5 - 0.5 * _bristles(shape, trace, seed, pixel))
        return band(trace.distance, trace.radius, pixel) * (t0 + (t1 - t0) * trace.last) * paint

    def bounds(self, shape: Tensor) -> Tensor:
        return curve_bounds(shape)

    def outline(self, shape: Tensor) -> Outline:
        """Ribbons side by side along the curve, each with the mean texture of its width."""
        axis, offsets = opacity_stops(shape)
        edges = torch.linspace(-1, 1, _RIBBONS + 1, device=shape.device)
        places = torch.linspace(0, 1, OPACITY_STOPS, device=shape.device)
        middles = ((edges[1:] + edges[:-1]) / 2)[:, None]
        t0, t1, dryness, seed = as_maps(shape[:, 8:12])
        blur = torch.tensor(2 / _RIBBONS, device=shape.device)
        paint = 1 - dryness * (0.5 - 0.5 * _texture(middles, places, seed, blur))
        opacity = (t0 + (t1 - t0) * places) * paint
        offsets = offsets[:, None].expand(-1, _RIBBONS, OPACITY_STOPS)
        axis = axis[:, None].expand(-1, _RIBBONS, 2, 2)
        return Outline(_ribbons(shape, edges), axis, torch.stack([offsets, opacity], -1))


def _ribbons(shape: Tensor, edges: Tensor) -> Tensor:
    """Closed chains [N, K - 1, S, 4, 2] between neighbouring ``edges`` [K], -1..1 across the brush."""
    at = sweep(shape, torch.linspace(0, 1, _SIDE + 1, device=shape.device))
    centre, radius = at.centre[:, None], at.radius[:, None, :, None]
    across = edges[None, :, None, None]
    lines = centre + radius * (across.abs() * at.ahead[:, None] + across * at.aside[:, None])
    # Beyond the ends an edge continues to the round cap.
    normal = torch.stack([-at.direction[..., 1], at.direction[..., 0]], -1)[:, None]
    cap = (1 - across.square()).sqrt() * at.direction[:, None]
    near = (centre + radius * (across * normal - cap))[:, :, :1]
    far = (centre + radius * (across * normal + cap))[:, :, -1:]
    upper, lower = slice(None, -1), slice(1, None)
    start, end = lines[:, :, :1], lines[:, :, -1:]
    upper_side, lower_side = smooth_curve(lines[:, upper]), smooth_curve(lines[:, lower].flip(2))
    far_end = polyline(torch.cat([end[:, upper], far[:, upper], far[:, lower], end[:, lower]], 2))
    near_end = polyline(torch.cat([start[:, lower], near[:, lower], near[:, upper], start[:, upper]], 2))
    return torch.cat([upper_side, far_end, lower_side, near_end], 2)


def _bristles(shape: Tensor, trace: Trace, seed: Tensor, pixel: Tensor) -> Tensor:
    """The texture in [-1, 1] at every pixel."""
    x0, y0, x1, y1, x2, y2 = as_maps(shape[:, :6])
    ex, ey = x2 - x0, y2 - y0
    t = trace.nearest
    # Direction of the curve: P'(t) = 2 (1 - t) (P1 - P0) + 2 t (P2 - P1), with P1 - P0 = (ex x1, ey y1).
    along_u = (1 - t) * ex * x1 + t * ex * (1 - x1)
    along_v = (1 - t) * ey * y1 + t * ey * (1 - y1)
    speed = torch.sqrt(along_u * along_u + along_v * along_v + 1e-8)
    # From -1 at one edge of the brush to 1 at the other.
    place = (trace.du * along_v - trace.dv * along_u) / (speed * trace.radius)
    return _texture(place, t, seed, pixel / trace.radius)


def _texture(place: Tensor, t: Tensor, seed: Tensor, step: Tensor) -> Tensor:
    """The texture in [-1, 1] at ``place`` (-1..1 across) and ``t`` (along), averaged over ``step`` of place."""
    texture = torch.zeros_like(place)
    for periods, weight, phase, drift in _BRISTLES:
        angle = math.pi * periods * place + 2 * math.pi * (phase * seed + drift * t)
        texture = texture + weight * _sinc(periods * step / 2) * torch.cos(angle)
    return texture


def _sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x) up to its first zero, then 0: the amplitude of a wave averaged over x periods."""
    scaled = math.pi * x.clamp(min=1e-4, max=1.0)
    return torch.sin(scaled) / scaled
