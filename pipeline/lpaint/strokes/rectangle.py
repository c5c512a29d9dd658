"""A filled rectangle at any angle."""

import math

import torch
from torch import Tensor

from lpaint.strokes.edges import as_maps, band, pixel_side
from lpaint.strokes.family import Parameter, StrokeFamily
from lpaint.strokes.outline import Outline, polygon, uniform_outline


class Rectangle(StrokeFamily):
    """A rotated rectangle of one opacity.

    Coverage of an edge pixel is the product of its overlaps along the two sides. That is exact if the sides are
    parallel to the raster; at the corners of a rotated rectangle the error is a fraction of a pixel.
    """

    name = "rectangle"
    summary = "rectangle at any angle"
    shape = (
        Parameter("x", "row of the centre, 0 = top"),
        Parameter("y", "column of the centre, 0 = left"),
        Parameter("h", "first side, 1 = half the frame"),
        Parameter("w", "second side, 1 = half the frame"),
        Parameter("angle", "turn of the first side from the vertical, 1 = half a turn"),
        Parameter("t", "opacity, 1 = covers"),
    )
    # Half the diagonal of the largest.
    overhang = 0.36

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        x, y, h, w, angle, t = as_maps(shape)
        cosine, sine = torch.cos(math.pi * angle), torch.sin(math.pi * angle)
        du, dv = rows[:, :, None] - x, columns[:, None, :] - y
        pixel = pixel_side(pixel_size)
        along = band((cosine * du + sine * dv).abs(), h / 4, pixel)
        across = band((cosine * dv - sine * du).abs(), w / 4, pixel)
        return along * across * t

    def bounds(self, shape: Tensor) -> Tensor:
        centre, half = shape[:, :2], shape[:, 2:4] / 4
        cosine = torch.cos(math.pi * shape[:, 4:5]).abs()
        sine = torch.sin(math.pi * shape[:, 4:5]).abs()
        spread = torch.cat([cosine * half[:, :1] + sine * half[:, 1:], sine * half[:, :1] + cosine * half[:, 1:]], 1)
        return torch.cat([centre - spread, centre + spread], 1)

    def outline(self, shape: Tensor) -> Outline:
        centre, half = shape[:, None, :2], shape[:, None, 2:4] / 4
        cosine, sine = torch.cos(math.pi * shape[:, 4:5]), torch.sin(math.pi * shape[:, 4:5])
        along, across = torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)
        turns = ((1, 1), (1, -1), (-1, -1), (-1, 1))
        corners = [centre + a * half[..., :1] * along + b * half[..., 1:] * across for a, b in turns]
        return uniform_outline(polygon(torch.cat(corners, 1)), shape[:, 5])
