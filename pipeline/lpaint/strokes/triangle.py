"""A filled triangle."""

import torch
from torch import Tensor

from lpaint.strokes.edges import as_maps, length, pixel_side
from lpaint.strokes.family import Parameter, StrokeFamily
from lpaint.strokes.outline import Outline, polygon, uniform_outline


class Triangle(StrokeFamily):
    """Three corners, one opacity.

    Coverage is computed from the signed distance to the outline. A triangle thinner than a pixel fades in proportion to
    its thickness (twice the area over the longest side), so three points on a line paint nothing.
    """

    name = "triangle"
    summary = "triangle of three free corners"
    shape = (
        Parameter("x0", "row of the first corner, 0 = top"),
        Parameter("y0", "column of the first corner, 0 = left"),
        Parameter("x1", "row of the second corner"),
        Parameter("y1", "column of the second corner"),
        Parameter("x2", "row of the third corner"),
        Parameter("y2", "column of the third corner"),
        Parameter("t", "opacity, 1 = covers"),
    )
    overhang = 0.0

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        x0, y0, x1, y1, x2, y2, t = as_maps(shape)
        u, v = rows[:, :, None], columns[:, None, :]
        corners = ((x0, y0), (x1, y1), (x2, y2))
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        turn = torch.where(area < 0, -1.0, 1.0).to(shape.dtype)
        nearest: Tensor | None = None
        inside: Tensor | None = None
        longest = torch.zeros_like(x0)
        for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
            ex, ey = bx - ax, by - ay
            square = ex * ex + ey * ey
            du, dv = u - ax, v - ay
            along = ((du * ex + dv * ey) / square.clamp(min=1e-12)).clamp(0, 1)
            distance = length(du - along * ex, dv - along * ey)
            left = turn * (ex * dv - ey * du) >= 0
            nearest = distance if nearest is None else torch.minimum(nearest, distance)
            inside = left if inside is None else inside & left
            longest = torch.maximum(longest, length(ex, ey))
        assert nearest is not None and inside is not None
        pixel = pixel_side(pixel_size)
        coverage = (0.5 + torch.where(inside, nearest, -nearest) / pixel).clamp(0, 1)
        return coverage * (area.abs() / longest / pixel).clamp(0, 1) * t

    def bounds(self, shape: Tensor) -> Tensor:
        corners = shape[:, :6].view(-1, 3, 2)
        return torch.cat([corners.amin(1), corners.amax(1)], 1)

    def outline(self, shape: Tensor) -> Outline:
        return uniform_outline(polygon(shape[:, :6].view(-1, 3, 2)), shape[:, 6])
