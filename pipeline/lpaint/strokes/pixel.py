"""A square of a grid: the stroke of pixel art."""

import torch
from torch import Tensor

from lpaint.strokes.edges import as_maps
from lpaint.strokes.family import Parameter, StrokeFamily
from lpaint.strokes.outline import Outline, polygon, uniform_outline

GRID = 16
_LARGEST = 4


class Pixel(StrokeFamily):
    """An opaque square of 1 to 4 cells a side, on a grid of 16 x 16 cells a frame.

    Position and size are rounded to whole cells. The gradient of rounding is taken as that of the identity (the
    straight-through estimator, Bengio et al. 2013, arXiv 1308.3432); otherwise it would be zero.
    """

    name = "pixel"
    summary = "opaque square snapped to a grid of 16 x 16 cells"
    shape = (
        Parameter("x", "row of the first cell, 0 = top, 1 = lowest that fits"),
        Parameter("y", "column of the first cell, 0 = left, 1 = rightmost that fits"),
        Parameter("s", "side, from 1 cell at 0 to 4 cells at 1"),
    )
    overhang = 0.0

    def rasterise(self, shape: Tensor, rows: Tensor, columns: Tensor, pixel_size: Tensor) -> Tensor:
        """See ``StrokeFamily.rasterise``; coverage of edge pixels is exact."""
        top, left, bottom, right = as_maps(self.bounds(shape))
        tall, wide = as_maps(pixel_size)
        u, v = rows[:, :, None], columns[:, None, :]
        down = torch.minimum(u + tall / 2, bottom) - torch.maximum(u - tall / 2, top)
        across = torch.minimum(v + wide / 2, right) - torch.maximum(v - wide / 2, left)
        return (down / tall).clamp(0, 1) * (across / wide).clamp(0, 1)

    def bounds(self, shape: Tensor) -> Tensor:
        side = 1 + _snapped(shape[:, 2:3], _LARGEST)
        corner = torch.cat([_snapped(shape[:, i : i + 1], GRID + 1 - side) for i in (0, 1)], 1)
        return torch.cat([corner, corner + side], 1) / GRID

    def outline(self, shape: Tensor) -> Outline:
        top, left, bottom, right = self.bounds(shape).unbind(1)
        corners = torch.stack([top, left, top, right, bottom, right, bottom, left], 1).view(-1, 4, 2)
        return uniform_outline(polygon(corners), torch.ones_like(top))


def _snapped(value: Tensor, choices: Tensor | int) -> Tensor:
    """Map [0, 1] to 0, 1, ..., ``choices`` - 1 in equal parts; the gradient is that of value * choices."""
    scaled = value * choices
    top = choices - 1
    whole = torch.minimum(torch.floor(scaled), top if isinstance(top, Tensor) else torch.full_like(scaled, top))
    return scaled + (whole - scaled).detach()
