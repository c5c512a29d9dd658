"""One picture to one painting: strokes are found at a working size and drawn at any other."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lpaint.painting.engine.resample import resize
from lpaint.painting.engine.search import (
    EFFORT,
    PaintingModel,
    Strokes,
    draw_strokes,
    episode_strokes,
    paint_as_trained,
    paint_grid,
)

# A painting's error is judged on at most this many pixels a side; finer detail than that is smaller than any stroke.
WORKING_SIDE = 1024
# Strokes where nobody says how many, of a model that has no episode.
DEFAULT_STROKES = 1000


@dataclass(frozen=True)
class Plan:
    """How to spend strokes: ``strokes`` as the model was trained, or with ``divide`` above 0 evenly, ``steps`` a tile.

    ``strokes``: None = as many as the model's episode has, or DEFAULT_STROKES of a model that searches; see
    ``paint_as_trained``. ``steps``: bundles. ``effort``: how picky the search is; see ``paint_by_error``.
    ``background``: red, green and blue of the bare canvas, in [0, 1]; None = as the model learnt it.
    ``order``: ``painted``, or ``large-first``: strokes of larger frames first, which changes the painting a little.
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
class Painted:
    """A finished painting: ``strokes``, its size in pixels, and its canvas [3, H, W] in [0, 1], once it was drawn."""

    strokes: Strokes
    height: int
    width: int
    finished: np.ndarray | None = None

    def canvas(self, model: PaintingModel) -> np.ndarray:
        """The painting [3, height, width] in [0, 1]."""
        if self.finished is None:
            *_, self.finished = draw_strokes(model, self.strokes, self.height, self.width)
        return self.finished


def paint_picture(
    model: PaintingModel,
    picture: np.ndarray,
    plan: Plan,
    size: tuple[int, int] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Painted:
    """Paint a picture of any size.

    Args:
        model: the trained painter.
        picture: [3, H, W] float32 in [0, 1].
        plan: how strokes are spent.
        size: height and width of the painting in pixels; None = the picture's own. Another aspect stretches it.
        on_progress: called with the number of strokes tried so far, at most ``plan.total(model)``.
    """
    height, width = picture.shape[1:]
    working = picture
    if max(height, width) > WORKING_SIDE:
        working = resize(picture[None], *scaled(height, width, WORKING_SIDE))[0]
    if plan.divide:
        painting = paint_grid(model, working, plan.divide, plan.steps, on_progress, plan.background)
    else:
        budgets = [plan.total(model)]
        painting = paint_as_trained(model, working[None], budgets, on_progress, plan.effort, plan.background)
    strokes = painting.strokes[0]
    if plan.order == "large-first":
        strokes = strokes.large_first()
    out = size or (height, width)
    if working.shape[1:] == out and plan.order == "painted":
        (canvas,) = painting.snapshots.values()
        return Painted(strokes, out[0], out[1], canvas[0])
    return Painted(strokes, out[0], out[1])


def scaled(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width of the same aspect whose longer one is ``longest``; neither below 1."""
    factor = longest / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))
