"""Drawing of many strokes on rasters of one size, for training."""

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
# Tiles drawn at once where no gradient is needed, so that the working set fits the CPU's caches.
_TILES_AT_ONCE = 1024
# Kernels that torch may compile. A process may compile all families; torch's default of 8 would leave the last slow.
_KERNELS = 128


def exact_rasteriser(family: StrokeFamily, size: int, compiled: bool) -> Rasteriser:
    """The family's exact rasteriser for ``size`` x ``size`` rasters, fused by torch.compile if ``compiled``.

    A CPU draws only the tiles that a stroke may touch; the pixels are the same. A GPU draws all pixels, because the
    choice of tiles would make the CPU wait for the GPU. If ``size`` is no multiple of a tile, all pixels are drawn too.
    """
    draw, find = _fused(family) if compiled else (family.rasterise, family.rasterise)

    def draw_all(shape: Tensor) -> Tensor:
        return draw(shape, *pixel_centres(len(shape), size, shape.device))

    def draw_touched(shape: Tensor) -> Tensor:
        if shape.is_cuda:
            return draw_all(shape)
        return _draw_tiles(draw, shape, size, _touched_tiles(find, shape, size))

    return draw_all if size % _TILE else draw_touched


def _fused(family: StrokeFamily) -> tuple[_Draw, _Draw]:
    """The family's rasteriser, compiled once to draw tiles and once to find them: the best kernels differ."""
    torch._dynamo.config.recompile_limit = max(_KERNELS, torch._dynamo.config.recompile_limit)

    @torch.compile
    def draw(*arguments: Tensor) -> Tensor:
        return family.rasterise(*arguments)

    @torch.compile
    def find(*arguments: Tensor) -> Tensor:
        return family.rasterise(*arguments)

    def dynamic_batch(compiled: _Draw) -> _Draw:
        def call(*arguments: Tensor) -> Tensor:
            for argument in arguments:
                torch._dynamo.maybe_mark_dynamic(argument, 0)
            return compiled(*arguments)

        return call

    return dynamic_batch(draw), dynamic_batch(find)


Tiles = tuple[Tensor, Tensor, Tensor]
"""Stroke, row and column of each of T tiles; [T] each."""


def _draw_tiles(draw: _Draw, shape: Tensor, size: int, touched: Tiles) -> Tensor:
    count, tiles = len(shape), size // _TILE
    centres, _, pixel_size = pixel_centres(count, size)
    lines = centres[0].view(tiles, _TILE)
    raster = shape.new_zeros(count, tiles, _TILE, tiles, _TILE)
    tile_view = raster.transpose(2, 3)
    at_once = len(touched[0]) if torch.is_grad_enabled() else _TILES_AT_ONCE
    for stroke, i, j in zip(*(part.split(max(1, at_once)) for part in touched), strict=True):
        tile_view[stroke, i, j] = draw(shape[stroke], lines[i], lines[j], pixel_size[stroke])
    return raster.view(count, size, size)


@torch.no_grad()
def _touched_tiles(draw: _Draw, shape: Tensor, size: int) -> Tiles:
    """Tiles that strokes may paint on.

    A tile counts as touched if a pixel at its centre, as wide as the tile's diagonal and its pixels' soft edges, has
    paint.
    """
    centres, _, side = pixel_centres(len(shape), size // _TILE)
    # With an opacity of 0 no tile would be found. The change of the other parameters is too small to see.
    touched = draw(shape.detach().clamp(min=1e-6), centres, centres, side * (math.sqrt(2) + 2 / _TILE)) > 0
    stroke, i, j = touched.nonzero().unbind(1)
    return stroke, i, j
