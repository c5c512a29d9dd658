"""Drawing many strokes on rasters of one size, as training does."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lpaint.strokes.family import StrokeFamily, pixel_centres

Rasteriser = Callable[[Tensor], Tensor]
"""Shapes [N, shape_parameters] -> opacity [N, S, S] on the agent's canvas."""

_Draw = Callable[..., Tensor]
"""``StrokeFamily.rasterise`` of some family."""

_TILE = 16
# Tiles drawn at once where no gradient is kept: what a CPU works on then stays in its caches.
_TILES_AT_ONCE = 1024
# A process that compares families compiles each; torch's default of 8 kernels would leave the last ones slow.
_KERNELS = 128


def exact_rasteriser(family: StrokeFamily, size: int, compiled: bool) -> Rasteriser:
    """The family's exact rasteriser over whole ``size`` x ``size`` rasters, fused by torch.compile if ``compiled``.

    A CPU draws only the tiles that a stroke may touch; the pixels are the same. A GPU draws all of them, because to
    find out which would mean to wait for it, and so does any device where ``size`` is no multiple of a tile.
    """
    drawing, asking = _fused(family) if compiled else (family.rasterise, family.rasterise)

    def whole(shape: Tensor) -> Tensor:
        return drawing(shape, *pixel_centres(len(shape), size, shape.device))

    def by_tiles(shape: Tensor) -> Tensor:
        if shape.is_cuda:
            return whole(shape)
        return _draw_tiles(drawing, shape, size, _touched(asking, shape, size))

    return whole if size % _TILE else by_tiles


def _fused(family: StrokeFamily) -> tuple[_Draw, _Draw]:
    """The family's rasteriser compiled twice: kernels fitted to the few pixels of one use are slow in the other."""
    torch._dynamo.config.recompile_limit = max(_KERNELS, torch._dynamo.config.recompile_limit)

    @torch.compile
    def drawing(*places: Tensor) -> Tensor:
        return family.rasterise(*places)

    @torch.compile
    def asking(*places: Tensor) -> Tensor:
        return family.rasterise(*places)

    def any_count(draw: _Draw) -> _Draw:
        def call(*places: Tensor) -> Tensor:
            for part in places:
                torch._dynamo.maybe_mark_dynamic(part, 0)
            return draw(*places)

        return call

    return any_count(drawing), any_count(asking)


Tiles = tuple[Tensor, Tensor, Tensor]
"""Stroke, row and column of each of T tiles, [T] each."""


def _draw_tiles(draw: _Draw, shape: Tensor, size: int, touched: Tiles) -> Tensor:
    count, tiles = len(shape), size // _TILE
    centres, _, pitch = pixel_centres(count, size)
    lines = centres[0].view(tiles, _TILE)
    raster = shape.new_zeros(count, tiles, _TILE, tiles, _TILE)
    places = raster.transpose(2, 3)
    at_once = len(touched[0]) if torch.is_grad_enabled() else _TILES_AT_ONCE
    for stroke, i, j in zip(*(part.split(max(1, at_once)) for part in touched), strict=True):
        places[stroke, i, j] = draw(shape[stroke], lines[i], lines[j], pitch[stroke])
    return raster.view(count, size, size)


@torch.no_grad()
def _touched(draw: _Draw, shape: Tensor, size: int) -> Tiles:
    """Tiles that strokes may paint on.

    A tile is asked as if it were one large pixel, as wide as the tile's diagonal and its pixels' soft edges.
    """
    centres, _, side = pixel_centres(len(shape), size // _TILE)
    # An opacity of nought would hide the tile; the rest of the shape moves by nothing that shows.
    touched = draw(shape.detach().clamp(min=1e-6), centres, centres, side * (math.sqrt(2) + 2 / _TILE)) > 0
    stroke, i, j = touched.nonzero().unbind(1)
    return stroke, i, j
