"""Drawing many strokes on rasters of one size, as training does."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lpaint.strokes.family import StrokeFamily, pixel_centres

Rasteriser = Callable[[Tensor], Tensor]
"""Shapes [N, shape_parameters] -> opacity [N, S, S] on the agent's canvas."""

_TILE = 16
# Strokes drawn at once have at most so many pixels together: what a CPU works on stays in its caches.
_PIXELS_AT_ONCE = 1 << 20
# A process that compares families compiles each; torch's default of 8 kernels would leave the last ones slow.
_KERNELS = 128


def exact_rasteriser(family: StrokeFamily, size: int, compiled: bool) -> Rasteriser:
    """The family's exact rasteriser over whole ``size`` x ``size`` rasters, fused by torch.compile if ``compiled``.

    A CPU draws only the tiles that a stroke may touch; the pixels are the same. A GPU draws all of them, because to
    find out which would mean to wait for it, and so does any device where ``size`` is no multiple of a tile.
    """
    draw = family.rasterise
    if compiled:
        torch._dynamo.config.recompile_limit = max(_KERNELS, torch._dynamo.config.recompile_limit)
        draw = torch.compile(draw, dynamic=True)

    def whole(shape: Tensor) -> Tensor:
        return draw(shape, *pixel_centres(len(shape), size, shape.device))

    def by_tiles(shape: Tensor) -> Tensor:
        if shape.is_cuda:
            return whole(shape)
        parts = [_draw_tiles(draw, part, size) for part in shape.split(max(1, _PIXELS_AT_ONCE // size**2))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return whole if size % _TILE else by_tiles


def _draw_tiles(draw: Callable[..., Tensor], shape: Tensor, size: int) -> Tensor:
    count, tiles = len(shape), size // _TILE
    stroke, i, j = _touched(draw, shape, size)
    centres, _, pitch = pixel_centres(1, size)
    lines = centres.view(tiles, _TILE)
    alpha = draw(shape[stroke], lines[i], lines[j], pitch.expand(len(stroke), -1))
    raster = alpha.new_zeros(count, tiles, _TILE, tiles, _TILE)
    raster.transpose(2, 3)[stroke, i, j] = alpha
    return raster.view(count, size, size)


@torch.no_grad()
def _touched(draw: Callable[..., Tensor], shape: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tiles that strokes may paint on: stroke, row and column of each.

    A tile is asked as if it were one large pixel, as wide as the tile's diagonal and its pixels' soft edges.
    """
    centres, _, side = pixel_centres(len(shape), size // _TILE)
    # An opacity of nought would hide the tile; the rest of the shape moves by nothing that shows.
    touched = draw(shape.detach().clamp(min=1e-6), centres, centres, side * (math.sqrt(2) + 2 / _TILE)) > 0
    stroke, i, j = touched.nonzero().unbind(1)
    return stroke, i, j
