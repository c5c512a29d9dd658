"""A straight, tapered line with round ends."""

import torch
from torch import Tensor

from lpaint.strokes.bezier import LEAST_RADIUS, curve_outline
from lpaint.strokes.edges import as_maps, band, length, pixel_side
from lpaint.strokes.family import Parameter, StrokeFamily
from lpaint.strokes.outline import Outline, uniform_outline


class Line(StrokeFamily):
    """A straight stroke whose radius runs linearly from one end to the other.

    The disc that extends furthest over a pixel has a closed form: its centre is the foot of the perpendicular on the
    axis, moved towards the wider end by the slope of the taper (the tangent from the pixel to the cone).
    """

    name = "line"
    summary = "straight line, tapered, with round ends"
    shape = (
        Parameter("x0", "row of the start, 0 = top"),
        Parameter("y0", "column of the start, 0 = left"),
        Parameter("x1", "row of the end"),
        Parameter("y1", "column of the end"),
        Parameter("r0", "radius at the start, 1 = an eighth of the frame"),
        Parameter("r1", "radius at the end"),
        Parameter("t", "opacity, 1 = covers"),
    )
    overhang = 0.13

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        x0, y0, x1, y1, r0, r1, t = as_maps(shape)
        ex, ey = x1 - x0, y1 - y0
        start, widening = r0 / 8 + LEAST_RADIUS, (r1 - r0) / 8
        du, dv = rows[:, :, None] - x0, columns[:, None, :] - y0
        with torch.no_grad():
            side = length(ex, ey)
            foot = (du * ex + dv * ey) / side
            off = (du * ey - dv * ex).abs() / side
            # If one end's disc contains the other's there is no tangent, and the wider end extends furthest.
            slope = widening / side
            tangent = slope / torch.sqrt((1 - slope * slope).clamp(min=1e-6))
            nearest = ((foot + off * tangent) / side).clamp(0, 1)
            nearest = torch.where(slope.abs() < 1, nearest, (widening > 0).to(shape.dtype))
        distance = length(du - nearest * ex, dv - nearest * ey)
        return band(distance, start + widening * nearest, pixel_side(pixel_size)) * t

    def bounds(self, shape: Tensor) -> Tensor:
        ends = shape[:, :4].view(-1, 2, 2)
        radius = shape[:, 4:6, None] / 8 + LEAST_RADIUS
        return torch.cat([(ends - radius).amin(1), (ends + radius).amax(1)], 1)

    def outline(self, shape: Tensor) -> Outline:
        """The outline of a Bézier stroke with its middle control point half way between the ends."""
        half = torch.full_like(shape[:, :2], 0.5)
        curve = torch.cat([shape[:, :2], half, shape[:, 2:4], shape[:, 4:6] / 2], 1)
        return uniform_outline(curve_outline(curve), shape[:, 6])
