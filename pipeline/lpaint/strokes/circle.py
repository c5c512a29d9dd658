"""A filled disc."""

import torch
from torch import Tensor

from lpaint.strokes.edges import as_maps, band, length, pixel_side
from lpaint.strokes.family import Parameter, StrokeFamily
from lpaint.strokes.outline import Outline, disc, uniform_outline


class Circle(StrokeFamily):
    """A disc of one opacity."""

    name = "circle"
    summary = "disc of one opacity"
    shape = (
        Parameter("x", "row of the centre, 0 = top"),
        Parameter("y", "column of the centre, 0 = left"),
        Parameter("r", "radius, 1 = a third of the frame"),
        Parameter("t", "opacity, 1 = covers"),
    )
    overhang = 0.34

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        x, y, r, t = as_maps(shape)
        distance = length(rows[:, :, None] - x, columns[:, None, :] - y)
        return band(distance, r / 3, pixel_side(pixel_size)) * t

    def bounds(self, shape: Tensor) -> Tensor:
        centre, radius = shape[:, :2], shape[:, 2:3] / 3
        return torch.cat([centre - radius, centre + radius], 1)

    def outline(self, shape: Tensor) -> Outline:
        return uniform_outline(disc(shape[:, :2], shape[:, 2] / 3), shape[:, 3])
