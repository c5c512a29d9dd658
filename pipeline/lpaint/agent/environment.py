"""Batched painting on the device: strokes to paint, episodes that zoom in.

An episode paints the whole picture for ``max_steps`` steps, then a crop of it at the next scale of ``zoom``, and so on,
what is painted there so far being carried along. ``zoom: [1]`` is the published episode.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lpaint.agent.targets import Pictures
from lpaint.replay import Transitions, View
from lpaint.runtime.params import Agent
from lpaint.strokes import Rasteriser, StrokeFamily, composite, fit_colour

Policy = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(canvas [B, 3, S, S], target [B, 3, S, S], fraction [B]) -> strokes [B, bundle, parameters]."""

# Strokes that are drawn again together after a crop: few enough for a CPU's caches.
_REDRAWN_AT_ONCE = 256


class Compositor:
    """Lays bundles of strokes on canvases, differentiably.

    The opacity comes from ``rasteriser``: the exact one of the family or a neural one. ``fit_colours`` tells where a
    stroke's colour is not the actor's but the best there is for its shape (``strokes.fit_colour``): in the
    ``rollouts``, and in the actor's loss too (``always``).
    """

    def __init__(self, family: StrokeFamily, rasteriser: Rasteriser, fit_colours: str = "never") -> None:
        self.family, self.rasteriser, self.fit_colours = family, rasteriser, fit_colours

    def imagine(self, canvas: Tensor, strokes: Tensor, target: Tensor) -> Tensor:
        """The painted canvas as the actor's loss sees it.

        Canvas and target [B, 3, S, S] and strokes [B, K, parameters], all in [0, 1].
        """
        return self._lay(canvas, strokes, target, self.fit_colours == "always")[0]

    def paint(self, canvas: Tensor, strokes: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The painted canvas as episodes go on from it, and the strokes with the colours that were laid."""
        return self._lay(canvas, strokes, target, self.fit_colours in ("rollouts", "always"))

    def _lay(self, canvas: Tensor, strokes: Tensor, target: Tensor, fitted: bool) -> tuple[Tensor, Tensor]:
        batch, bundle, _ = strokes.shape
        shape, colour = strokes.split([self.family.shape_parameters, 3], 2)
        alpha = self.rasteriser(shape.reshape(batch * bundle, -1)).view(batch, bundle, *canvas.shape[2:])
        if not fitted:
            return composite(canvas, alpha, colour), strokes
        laid = []
        for k in range(bundle):
            laid.append(fit_colour(canvas, alpha[:, k], colour[:, k], target))
            canvas = composite(canvas, alpha[:, k : k + 1], laid[-1][:, None])
        return canvas, torch.cat([shape, torch.stack(laid, 1)], 2)


@dataclass(frozen=True)
class _Painted:
    """Strokes [B, K, parameters] in the square frames ``top``, ``left`` [B] and ``side``, in a picture's pixels."""

    strokes: Tensor
    top: Tensor
    left: Tensor
    side: int


@torch.no_grad()
def rollout(
    pictures: Pictures, painter: Compositor, policy: Policy, settings: Agent, generator: torch.Generator
) -> Iterator[Transitions]:
    """Paint one episode in each of ``settings.environments``; yields a step of all of them at a time."""
    count, max_steps = settings.environments, settings.max_steps
    view = pictures.whole(count, settings.flip, generator)
    target = pictures.targets(view)
    canvas = ground = start_canvas(settings.start, target)
    painted: list[_Painted] = []
    for level, side in enumerate(pictures.sides):
        if level:
            error = (canvas - target).square().sum(1) if settings.crops == "error" else None
            view, canvas = pictures.closer(view, canvas, level, generator, error)
            target = pictures.targets(view)
            if settings.carry == "strokes":
                canvas = _redrawn(ground, painted, painter.family, view, side)
        for k in range(max_steps):
            step = torch.full((count,), k, device=pictures.device)
            after, strokes = painter.paint(canvas, policy(canvas, target, step / max_steps), target)
            yield Transitions(to_bytes(canvas), to_bytes(after), strokes, view, step)
            painted.append(_Painted(strokes, view.top, view.left, side))
            canvas = after


def start_canvas(start: str, target: Tensor) -> Tensor:
    """What an episode starts from, [B, 3, S, S]: ``black`` (as published), ``white`` or the target's ``mean``."""
    if start == "mean":
        return target.mean((2, 3), keepdim=True).expand_as(target)
    return torch.full_like(target, float(start == "white"))


def _redrawn(ground: Tensor, painted: list[_Painted], family: StrokeFamily, view: View, side: int) -> Tensor:
    """All strokes so far, drawn exactly on the crops that ``view`` shows: [B, 3, S, S]."""
    canvas, size = ground, ground.shape[-1]
    centres = (torch.arange(size, device=ground.device) + 0.5) * side / size
    for part in painted:
        batch, bundle, _ = part.strokes.shape
        shape, colour = part.strokes.split([family.shape_parameters, 3], 2)
        rows, columns = (
            ((mine - theirs)[:, None] + centres).div(part.side).repeat_interleave(bundle, 0)
            for mine, theirs in ((view.top, part.top), (view.left, part.left))
        )
        pitch = torch.full((batch * bundle, 2), side / size / part.side, device=ground.device)
        places = (shape.reshape(batch * bundle, -1), rows, columns, pitch)
        chunks = zip(*(place.split(_REDRAWN_AT_ONCE) for place in places), strict=True)
        alpha = torch.cat([family.rasterise(*chunk) for chunk in chunks])
        canvas = composite(canvas, alpha.view(batch, bundle, size, size), colour)
    return canvas


def to_bytes(canvas: Tensor) -> Tensor:
    """[0, 1] floats to uint8, rounded."""
    return (canvas * 255).round().to(torch.uint8)
