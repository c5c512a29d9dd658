"""Batched painting on the device: pictures to views, strokes to paint, episodes that zoom in.

An episode paints the whole picture for ``max_steps`` steps, then a random crop of it at the next scale of ``zoom``,
and so on, the canvas being cropped and enlarged along. ``zoom: [1]`` is the published episode.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from lpaint.replay import Transitions, View
from lpaint.strokes import Rasteriser, StrokeFamily, composite

Policy = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(canvas [B, 3, S, S], target [B, 3, S, S], fraction [B]) -> strokes [B, bundle, parameters]."""


class Pictures:
    """The packed images of a split, cut into targets on the device.

    Args:
        images: [N, P, P, 3] uint8; a memory map stays on disk, a CUDA tensor is resident.
        rows: [M] int64, the rows of ``images`` that belong to the split.
        canvas: side S of the agent's canvas in pixels.
        zoom: the scales; scale d shows crops of side P // d.
    """

    def __init__(self, images: Tensor, rows: Tensor, canvas: int, zoom: list[int], device: torch.device) -> None:
        self.images = images.to(device)
        self.rows = rows.to(device)
        self.canvas, self.device = canvas, device
        self.sides = [images.shape[1] // scale for scale in zoom]

    def whole(self, count: int, flip: bool, generator: torch.Generator) -> View:
        """Views of ``count`` random whole pictures, half of them mirrored if ``flip``."""
        pick = torch.randint(len(self.rows), (count,), generator=generator, device=self.device)
        mirrored = torch.rand(count, generator=generator, device=self.device) < (0.5 if flip else 0.0)
        zero = torch.zeros(count, dtype=torch.int64, device=self.device)
        return View(self.rows[pick], zero, zero, zero, mirrored)

    def closer(self, view: View, canvas: Tensor, level: int, generator: torch.Generator) -> tuple[View, Tensor]:
        """Random crops at the next ``level`` and the canvases [B, 3, S, S] that show what is painted there so far."""
        parent, side, size = self.sides[level - 1], self.sides[level], self.canvas
        window = size * side // parent
        # Corners lie on the canvas's pixels, so that canvas and target are cropped alike.
        corner = torch.randint(size - window + 1, (2, len(canvas)), generator=generator, device=self.device)
        offset = corner * parent // size
        steps = torch.arange(window, device=self.device)
        batch = torch.arange(len(canvas), device=self.device)[:, None, None]
        rows, columns = corner[0, :, None] + steps, corner[1, :, None] + steps
        cut = canvas.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        levels = torch.full_like(view.level, level)
        return View(view.image, view.top + offset[0], view.left + offset[1], levels, view.flip), self._fit(cut)

    def targets(self, view: View) -> Tensor:
        """The crops that ``view`` [B] refers to, at canvas size: [B, 3, S, S] in [0, 1]."""
        out = torch.empty(len(view.image), 3, self.canvas, self.canvas, device=self.device)
        for level, side in enumerate(self.sides):
            chosen = torch.nonzero(view.level == level).squeeze(1)
            if len(chosen):
                out[chosen] = self._fit(self._crop(view[chosen], side))
        return out

    def _crop(self, view: View, side: int) -> Tensor:
        steps = torch.arange(side, device=self.device)
        rows, columns = view.top[:, None] + steps, view.left[:, None] + steps
        # A mirrored picture is addressed from its right edge; the crop's corner is in mirrored coordinates.
        columns = torch.where(view.flip[:, None], self.images.shape[2] - 1 - columns, columns)
        crop = self.images[view.image[:, None, None], rows[:, :, None], columns[:, None, :]]
        return crop.permute(0, 3, 1, 2).float() / 255

    def _fit(self, picture: Tensor) -> Tensor:
        if picture.shape[-1] == self.canvas:
            return picture
        mode = "area" if picture.shape[-1] > self.canvas else "bilinear"
        return F.interpolate(picture, size=(self.canvas, self.canvas), mode=mode)


class Compositor:
    """Lays bundles of strokes on canvases, differentiably.

    The opacity comes from ``rasteriser``: the exact one of the family or a neural one.
    """

    def __init__(self, family: StrokeFamily, rasteriser: Rasteriser) -> None:
        self.family, self.rasteriser = family, rasteriser

    def __call__(self, canvas: Tensor, strokes: Tensor) -> Tensor:
        """Canvas [B, 3, S, S] and strokes [B, K, parameters], all in [0, 1] -> the painted canvas."""
        batch, bundle, _ = strokes.shape
        shape, colour = strokes.split([self.family.shape_parameters, 3], 2)
        alpha = self.rasteriser(shape.reshape(batch * bundle, -1))
        return composite(canvas, alpha.view(batch, bundle, *alpha.shape[1:]), colour)


@torch.no_grad()
def rollout(
    pictures: Pictures,
    painter: Compositor,
    policy: Policy,
    environments: int,
    max_steps: int,
    flip: bool,
    generator: torch.Generator,
) -> Iterator[Transitions]:
    """Paint one episode in each of ``environments``; yields the transitions of a step of all of them at a time."""
    view = pictures.whole(environments, flip, generator)
    canvas = torch.zeros(environments, 3, pictures.canvas, pictures.canvas, device=pictures.device)
    for level in range(len(pictures.sides)):
        if level:
            view, canvas = pictures.closer(view, canvas, level, generator)
        target = pictures.targets(view)
        for k in range(max_steps):
            step = torch.full((environments,), k, device=pictures.device)
            after = painter(canvas, policy(canvas, target, step / max_steps))
            yield Transitions(to_bytes(canvas), to_bytes(after), view, step)
            canvas = after


def to_bytes(canvas: Tensor) -> Tensor:
    """[0, 1] floats to uint8, rounded."""
    return (canvas * 255).round().to(torch.uint8)
