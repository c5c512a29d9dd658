"""A bristly brush: a Bézier stroke with a procedural texture along its curve."""

import math

import torch
from torch import Tensor

from lpaint.strokes.bezier import Bezier, Trace, curve_bounds, follow
from lpaint.strokes.edges import as_maps, band, pixel_side
from lpaint.strokes.family import Parameter, StrokeFamily

# Waves across the brush, each: periods from edge to edge, weight, phase per unit of ``seed``, drift along the curve.
_BRISTLES = ((2.0, 0.3, 3.0, 0.6), (5.0, 0.4, 7.0, -1.1), (11.0, 0.3, 13.0, 1.7))


class Brush(StrokeFamily):
    """A Bézier stroke whose paint thins between bristles that follow the curve.

    The texture is a sum of waves across the brush that drift along it, a function of the place in the stroke and not
    of the raster. A wave that a raster is too coarse for is averaged away, by the sinc of its periods a pixel, so that
    the stroke is the same at every resolution. In the gradient, the place along the curve counts as constant.
    """

    name = "brush"
    summary = "quadratic curve with bristles that follow it"
    shape = (
        *Bezier.shape,
        Parameter("dryness", "how thin the paint is between bristles, 0 = even, 1 = bare"),
        Parameter("seed", "which bristles"),
    )
    reach = Bezier.reach

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pitch: Tensor) -> Tensor:
        """See ``StrokeFamily.rasterise``."""
        trace = follow(shape, rows, columns)
        t0, t1, dryness, seed = as_maps(shape[:, 8:12])
        pixel = pixel_side(pitch)
        paint = 1 - dryness * (0.5 - 0.5 * _bristles(shape, trace, seed, pixel))
        return band(trace.distance, trace.radius, pixel) * (t0 + (t1 - t0) * trace.last) * paint

    def bounds(self, shape: Tensor) -> Tensor:
        """See ``StrokeFamily.bounds``."""
        return curve_bounds(shape)


def _bristles(shape: Tensor, trace: Trace, seed: Tensor, pixel: Tensor) -> Tensor:
    """Texture in [-1, 1] at every pixel."""
    x0, y0, x1, y1, x2, y2 = as_maps(shape[:, :6])
    ex, ey = x2 - x0, y2 - y0
    t = trace.nearest
    # Direction of the curve: P'(t) = 2 (1 - t) (P1 - P0) + 2 t (P2 - P1), with P1 - P0 = (ex x1, ey y1).
    along_u = (1 - t) * ex * x1 + t * ex * (1 - x1)
    along_v = (1 - t) * ey * y1 + t * ey * (1 - y1)
    speed = torch.sqrt(along_u * along_u + along_v * along_v + 1e-8)
    # From -1 at one edge of the brush to 1 at the other.
    place = (trace.du * along_v - trace.dv * along_u) / (speed * trace.radius)
    texture = torch.zeros_like(place)
    for periods, weight, phase, drift in _BRISTLES:
        blur = periods * pixel / (2 * trace.radius)
        angle = math.pi * periods * place + 2 * math.pi * (phase * seed + drift * t)
        texture = texture + weight * _sinc(blur) * torch.cos(angle)
    return texture


def _sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x) up to its first zero, then 0: what is left of a wave of x periods a pixel."""
    scaled = math.pi * x.clamp(min=1e-4, max=1.0)
    return torch.sin(scaled) / scaled
