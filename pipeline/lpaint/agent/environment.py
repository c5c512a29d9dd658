"""The painting environment, batched on the device: drawing strokes on canvases, and episodes that zoom in.

An episode paints the whole image for ``max_steps`` steps, then a crop of it at the next scale of ``zoom``, and so on.
The canvas of a crop starts with what is already painted there. ``zoom: [1]`` is the published episode.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lpaint.agent.targets import TargetSampler
from lpaint.replay import Transitions, View
from lpaint.runtime.params import Agent
from lpaint.strokes import Rasteriser, StrokeFamily, composite, fit_colour

Policy = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(canvas [B, 3, S, S], target [B, 3, S, S], fraction [B]) -> strokes [B, bundle, parameters]."""

# Strokes that are redrawn together on a crop: few enough for a CPU's caches.
_REDRAWN_AT_ONCE = 256


class Compositor:
    """Draws bundles of strokes on canvases of any size, differentiably: the model of the environment.

    Args:
        family: the strokes' family.
        rasterisers: side of a canvas in pixels -> what draws shapes on it, exactly or by a neural renderer.
        fit_colours: where the least-squares colour of a shape replaces the actor's (``strokes.fit_colour``):
            ``rollouts``: in ``step``; ``always``: in ``predict``, too; ``never`` and ``painting``: not in training.
    """

    def __init__(
        self, family: StrokeFamily, rasterisers: Callable[[int], Rasteriser], fit_colours: str = "never"
    ) -> None:
        self.family, self.fit_colours = family, fit_colours
        self._new_rasteriser = rasterisers
        self._rasterisers: dict[int, Rasteriser] = {}

    def predict(self, canvas: Tensor, strokes: Tensor, target: Tensor) -> Tensor:
        """The next canvas for the actor's loss.

        Canvas and target [B, 3, S, S] and strokes [B, K, parameters], all in [0, 1].
        """
        return self._draw(canvas, strokes, target, self.fit_colours == "always")[0]

    def step(self, canvas: Tensor, strokes: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The next canvas of an episode, and the strokes with the colours that were drawn."""
        return self._draw(canvas, strokes, target, self.fit_colours in ("rollouts", "always"))

    def _draw(self, canvas: Tensor, strokes: Tensor, target: Tensor, fitted: bool) -> tuple[Tensor, Tensor]:
        batch, bundle, _ = strokes.shape
        shape, colour = strokes.split([self.family.shape_parameters, 3], 2)
        rasterise = self._rasteriser(canvas.shape[-1])
        alpha = rasterise(shape.reshape(batch * bundle, -1)).view(batch, bundle, *canvas.shape[2:])
        if not fitted:
            return composite(canvas, alpha, colour), strokes
        colours = []
        for k in range(bundle):
            colours.append(fit_colour(canvas, alpha[:, k], colour[:, k], target))
            canvas = composite(canvas, alpha[:, k : k + 1], colours[-1][:, None])
        return canvas, torch.cat([shape, torch.stack(colours, 1)], 2)

    def _rasteriser(self, size: int) -> Rasteriser:
        if size not in self._rasterisers:
            self._rasterisers[size] = self._new_rasteriser(size)
        return self._rasterisers[size]


@dataclass(frozen=True)
class _PlacedStrokes:
    """Strokes [B, K, parameters] in square frames with corners ``top``, ``left`` [B] and ``side``, in image pixels."""

    strokes: Tensor
    top: Tensor
    left: Tensor
    side: int


@torch.no_grad()
def rollout(
    targets: TargetSampler, compositor: Compositor, policy: Policy, settings: Agent, generator: torch.Generator
) -> Iterator[Transitions]:
    """Paint one episode in each of ``settings.environments``; yields one step of all environments at a time."""
    count, max_steps = settings.environments, settings.max_steps
    view = targets.sample_images(count, settings.flip, generator)
    target = targets.load_targets(view)
    canvas = background = initial_canvas(settings.start, target)
    painted: list[_PlacedStrokes] = []
    for level, side in enumerate(targets.sides):
        if level:
            error = (canvas - target).square().sum(1) if settings.crops == "error" else None
            view, canvas = targets.zoom_in(view, canvas, level, generator, error)
            target = targets.load_targets(view)
            if settings.carry == "strokes":
                canvas = _redraw(background, painted, compositor.family, view, side)
        for k in range(max_steps):
            step = torch.full((count,), k, device=targets.device)
            next_canvas, strokes = compositor.step(canvas, policy(canvas, target, step / max_steps), target)
            yield Transitions(to_uint8(canvas), to_uint8(next_canvas), strokes, view, step)
            painted.append(_PlacedStrokes(strokes, view.top, view.left, side))
            canvas = next_canvas


def initial_canvas(kind: str, target: Tensor) -> Tensor:
    """The first canvas of an episode, [B, 3, S, S]: ``black`` (as published), ``white`` or the target's ``mean``."""
    if kind == "mean":
        return target.mean((2, 3), keepdim=True).expand_as(target)
    return torch.full_like(target, float(kind == "white"))


def _redraw(background: Tensor, painted: list[_PlacedStrokes], family: StrokeFamily, view: View, side: int) -> Tensor:
    """All strokes so far, drawn exactly on the crops of ``view``: [B, 3, S, S]."""
    canvas, size = background, background.shape[-1]
    centres = (torch.arange(size, device=background.device) + 0.5) * side / size
    for part in painted:
        batch, bundle, _ = part.strokes.shape
        shape, colour = part.strokes.split([family.shape_parameters, 3], 2)
        rows, columns = (
            ((crop - frame)[:, None] + centres).div(part.side).repeat_interleave(bundle, 0)
            for crop, frame in ((view.top, part.top), (view.left, part.left))
        )
        pixel_size = torch.full((batch * bundle, 2), side / size / part.side, device=background.device)
        inputs = (shape.reshape(batch * bundle, -1), rows, columns, pixel_size)
        chunks = zip(*(each.split(_REDRAWN_AT_ONCE) for each in inputs), strict=True)
        alpha = torch.cat([family.rasterise(*chunk) for chunk in chunks])
        canvas = composite(canvas, alpha.view(batch, bundle, size, size), colour)
    return canvas


def to_uint8(canvas: Tensor) -> Tensor:
    """Floats in [0, 1] to uint8 in 0..255, rounded to the nearest."""
    return (canvas * 255).round().to(torch.uint8)
