"""One picture to one painting: strokes are found at a working size and drawn at any other."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lpaint.painting.engine.resample import resize, scaled_size
from lpaint.painting.engine.search import EFFORT, episode_strokes, paint, paint_on_grid
from lpaint.painting.engine.types import PaintingModel, Strokes
from lpaint.painting.render import draw_strokes

# The search works on at most this many pixels a side; finer detail than that is smaller than any stroke.
WORKING_SIDE = 1024
# Strokes by default, of a model that has no episode.
DEFAULT_STROKES = 1000


@dataclass(frozen=True)
class Plan:
    """How to spend strokes.

    Attributes:
        strokes: the most strokes; None = as many as the model's episode has, or DEFAULT_STROKES of a model that
            searches. See ``search.paint``.
        divide: above 0, paint evenly on a grid of divide x divide tiles instead. See ``search.paint_on_grid``.
        steps: bundles on the whole picture and on each tile of the grid.
        effort: how selective the search is. See ``search.paint_by_search``.
        background: red, green and blue of the bare canvas, in [0, 1]; None = as in the model's training.
        order: ``painted``, or ``large-first``: strokes of larger frames first, which changes the painting a little.
    """

    strokes: int | None = None
    divide: int = 0
    steps: int = 5
    effort: int = EFFORT
    background: tuple[float, float, float] | None = None
    order: str = "painted"

    def total(self, model: PaintingModel) -> int:
        """Strokes that a painting has at most."""
        if not self.divide:
            return self.strokes or episode_strokes(model) or DEFAULT_STROKES
        tiles = self.divide**2 if self.divide > 1 else 0
        return self.steps * model.bundle * (1 + tiles)


@dataclass
class Painting:
    """A finished painting: its strokes, its size in pixels, and its pixels [3, H, W] in [0, 1] once they were drawn."""

    strokes: Strokes
    height: int
    width: int
    drawn: np.ndarray | None = None

    def canvas(self, model: PaintingModel) -> np.ndarray:
        """The painting [3, height, width] in [0, 1]; drawn at the first call."""
        if self.drawn is None:
            *_, self.drawn = draw_strokes(model, self.strokes, self.height, self.width)
        return self.drawn


def paint_picture(
    model: PaintingModel,
    picture: np.ndarray,
    plan: Plan,
    size: tuple[int, int] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Painting:
    """Paint a picture of any size.

    Args:
        model: the trained model.
        picture: [3, H, W] float32 in [0, 1].
        plan: how strokes are spent.
        size: height and width of the painting in pixels; None = the picture's own. Another aspect stretches it.
        on_progress: called with the number of strokes tried so far, at most ``plan.total(model)``.
    """
    height, width = picture.shape[1:]
    target = picture
    if max(height, width) > WORKING_SIDE:
        target = resize(picture[None], *scaled_size(height, width, WORKING_SIDE))[0]
    if plan.divide:
        result = paint_on_grid(model, target, plan.divide, plan.steps, on_progress, plan.background)
    else:
        result = paint(model, target[None], [plan.total(model)], on_progress, plan.effort, plan.background)
    strokes = result.strokes[0]
    if plan.order == "large-first":
        strokes = strokes.large_first()
    height, width = size or (height, width)
    if target.shape[1:] == (height, width) and plan.order == "painted":
        (canvas,) = result.snapshots.values()
        return Painting(strokes, height, width, canvas[0])
    return Painting(strokes, height, width)
